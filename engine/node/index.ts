/** What the engine needs of Node.js: model folders on a disk, and Dawn's WebGPU. */

export { type AdapterFolder, openAdapter, openAdapters } from './adapter-folder.ts';
export { availableMemory, availableThreads } from './limits.ts';
export { type ModelFolder, openModelFolder } from './model-folder.ts';
export { openCpu } from './open-cpu.ts';
export { type DeviceChoice, type DeviceDecision, type OpenDeviceOptions, openDevice } from './open-device.ts';
export { findWebGpuAdapter, howToGetWebGpu, type OpenNodeWebGpuOptions, openWebGpu } from './open-webgpu.ts';
export { readTuning, type TuningKey, tuneOnce, tuningKey, tuningPath, writeTuning } from './tuning-file.ts';
