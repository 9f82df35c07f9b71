/** What the engine needs of Node.js: model folders on a disk, and Dawn's WebGPU. */

export type { AdapterFolder } from '../adapter-folder.ts';
export type { DeviceChoice, DeviceDecision, OpenDeviceOptions } from '../device-choice.ts';
export type { ModelFolder } from '../model-folder.ts';
export { type TuningKey, tuningKey } from '../tuning.ts';
export { diskFolder, openAdapterFolder, openModelFolder } from './disk-folder.ts';
export { availableMemory, availableThreads } from './limits.ts';
export { openCpu } from './open-cpu.ts';
export { openDevice } from './open-device.ts';
export { findWebGpuAdapter, howToGetWebGpu, type OpenNodeWebGpuOptions, openWebGpu } from './open-webgpu.ts';
export { readTuning, tuneOnce, tuningPath, writeTuning } from './tuning-file.ts';
