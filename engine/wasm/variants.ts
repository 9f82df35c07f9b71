import { variants as addBias } from '../../kernels/add-bias/wasm.ts';
import { variants as attention } from '../../kernels/attention/wasm.ts';
import { variants as embedding } from '../../kernels/embedding/wasm.ts';
import { variants as gate } from '../../kernels/gate/wasm.ts';
import { variants as gatedMatmul } from '../../kernels/gated-matmul/wasm.ts';
import { variants as gatherRows } from '../../kernels/gather-rows/wasm.ts';
import { variants as logProbabilities } from '../../kernels/log-probabilities/wasm.ts';
import { variants as matmul } from '../../kernels/matmul/wasm.ts';
import { variants as matmulAdd } from '../../kernels/matmul-add/wasm.ts';
import { variants as normHeads } from '../../kernels/norm-heads/wasm.ts';
import { variants as randomNormal } from '../../kernels/random-normal/wasm.ts';
import { variants as rmsNorm } from '../../kernels/rms-norm/wasm.ts';
import { variants as ropeAndCache } from '../../kernels/rope-and-cache/wasm.ts';
import type { AnyWasmVariant } from '../../kernels/wasm/kernel.ts';

/** The kernels that the engine chooses from, by operation; the order of preference is that of the operation's own list. */
export const kernels: Readonly<Record<string, readonly AnyWasmVariant[]>> = {
  'add-bias': addBias,
  attention,
  embedding,
  gate,
  'gated-matmul': gatedMatmul,
  'gather-rows': gatherRows,
  'log-probabilities': logProbabilities,
  matmul,
  'matmul-add': matmulAdd,
  'norm-heads': normHeads,
  'random-normal': randomNormal,
  'rms-norm': rmsNorm,
  'rope-and-cache': ropeAndCache,
};
