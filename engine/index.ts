/** The inference engine: token ids in, logits out. Knows nothing of text or safety. */
export { LlamaGuardError } from '../kernels/errors.ts';
export { type Adapter, type AdapterFiles, adapterOf, type LowRankUpdate } from './adapter.ts';
export { parseAdapterConfig } from './adapter-config.ts';
export { type AdapterFolder, openAdapter, openAdapters } from './adapter-folder.ts';
export { type ArchitectureName, architectures } from './architectures.ts';
export type {
  Backend,
  DeviceDescription,
  KernelChoices,
  MemoryUse,
  OnTuning,
  Tensor,
  TuneOptions,
} from './backend.ts';
export { architectureOf, type LlamaConfig, parameterCount, parseLlamaConfig } from './config.ts';
export { CpuBackend } from './cpu/backend.ts';
export type { DeviceChoice, DeviceDecision, OpenDeviceOptions } from './device-choice.ts';
export { DeviceError, ModelError, SessionError } from './errors.ts';
export type { Folder, FolderFile } from './folder.ts';
export type { Probe } from './forward.ts';
export { bytesPerToken, type Context, cacheTokensWithin } from './kv-cache.ts';
export { Llama, type LlamaOptions, type SequenceInput } from './llama.ts';
export { type MemoryNeeds, memoryNeeds } from './memory-needs.ts';
export { mergedSource } from './merged-source.ts';
export { type ModelFolder, openModel } from './model-folder.ts';
export { PrefixCache, type PromptReading, type ReadPromptOptions } from './prefix-cache.ts';
export { type ByteFile, SafetensorsSource, type TensorSource } from './safetensors/source.ts';
export type { SamplingOptions } from './sampling.ts';
export { type GenerateOptions, Session } from './session.ts';
export { WebGpuBackend } from './webgpu/backend.ts';
export { type OpenWebGpuOptions, openWebGpuDevice } from './webgpu/open.ts';
export type { OnProgress, WeightDType } from './weights.ts';
