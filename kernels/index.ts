/** The kernels: operations with their contracts, and what it takes to add a variant or an operation. */
export { addBias } from './add-bias/index.ts';
export { attention } from './attention/index.ts';
export * from './contract.ts';
export type * from './cpu.ts';
export { embedding } from './embedding/index.ts';
export * from './errors.ts';
export { gate } from './gate/index.ts';
export { gatedMatmul } from './gated-matmul/index.ts';
export { gatherRows } from './gather-rows/index.ts';
export { logProbabilities } from './log-probabilities/index.ts';
export { matmul } from './matmul/index.ts';
export { matmulAdd } from './matmul-add/index.ts';
export { normHeads } from './norm-heads/index.ts';
export { randomNormal } from './random-normal/index.ts';
export { rmsNorm } from './rms-norm/index.ts';
export { type RopeScaling, ropeAndCache, ropeFrequencies, ropeTables } from './rope-and-cache/index.ts';
export * from './webgpu.ts';
