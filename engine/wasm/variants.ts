import { simd as addBias } from '../../kernels/add-bias/wasm.ts';
import { online as attention } from '../../kernels/attention/wasm.ts';
import { simd as embedding } from '../../kernels/embedding/wasm.ts';
import { simd as gate } from '../../kernels/gate/wasm.ts';
import * as gatedMatmul from '../../kernels/gated-matmul/wasm.ts';
import { simd as gatherRows } from '../../kernels/gather-rows/wasm.ts';
import { simd as logProbabilities } from '../../kernels/log-probabilities/wasm.ts';
import * as matmul from '../../kernels/matmul/wasm.ts';
import * as matmulAdd from '../../kernels/matmul-add/wasm.ts';
import { simd as normHeads } from '../../kernels/norm-heads/wasm.ts';
import { scalar as randomNormal } from '../../kernels/random-normal/wasm.ts';
import { simd as rmsNorm } from '../../kernels/rms-norm/wasm.ts';
import { simd as ropeAndCache } from '../../kernels/rope-and-cache/wasm.ts';
import type { AnyWasmVariant } from '../../kernels/wasm/kernel.ts';

/** The kernels that the engine uses, by operation: the most special first, one that serves all last. */
export const variants: Readonly<Record<string, readonly AnyWasmVariant[]>> = {
  'add-bias': [addBias],
  attention: [attention],
  embedding: [embedding],
  gate: [gate],
  'gated-matmul': [
    gatedMatmul.integerDots,
    gatedMatmul.dots,
    gatedMatmul.int8,
    gatedMatmul.integers,
    gatedMatmul.panels,
  ],
  'gather-rows': [gatherRows],
  'log-probabilities': [logProbabilities],
  matmul: [matmul.integerDots, matmul.dots, matmul.int8, matmul.integers, matmul.panels],
  'matmul-add': [matmulAdd.integerDots, matmulAdd.dots, matmulAdd.int8, matmulAdd.integers, matmulAdd.panels],
  'norm-heads': [normHeads],
  'random-normal': [randomNormal],
  'rms-norm': [rmsNorm],
  'rope-and-cache': [ropeAndCache],
};
