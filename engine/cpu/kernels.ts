import { reference as addBias } from '../../kernels/add-bias/reference.ts';
import { reference as attention } from '../../kernels/attention/reference.ts';
import type { AnyCpuVariant, AnyReference } from '../../kernels/cpu.ts';
import { rowwise as embedding } from '../../kernels/embedding/cpu.ts';
import { reference as gate } from '../../kernels/gate/reference.ts';
import { blocked as gatedMatmul } from '../../kernels/gated-matmul/cpu.ts';
import { reference as gatherRows } from '../../kernels/gather-rows/reference.ts';
import { reference as logProbabilities } from '../../kernels/log-probabilities/reference.ts';
import { blocked as matmul } from '../../kernels/matmul/cpu.ts';
import { blocked as matmulAdd } from '../../kernels/matmul-add/cpu.ts';
import { reference as normHeads } from '../../kernels/norm-heads/reference.ts';
import { rowwise as randomNormal } from '../../kernels/random-normal/cpu.ts';
import { reference as rmsNorm } from '../../kernels/rms-norm/reference.ts';
import { reference as ropeAndCache } from '../../kernels/rope-and-cache/reference.ts';

/** What runs each operation on the processor: its reference, or a variant where that is too slow or knows no f16. */
export const kernels: Readonly<Record<string, AnyReference | AnyCpuVariant['run']>> = {
  'add-bias': addBias,
  attention,
  embedding: embedding.run,
  gate,
  'gated-matmul': gatedMatmul.run,
  'gather-rows': gatherRows,
  'log-probabilities': logProbabilities,
  matmul: matmul.run,
  'matmul-add': matmulAdd.run,
  'norm-heads': normHeads,
  'random-normal': randomNormal.run,
  'rms-norm': rmsNorm,
  'rope-and-cache': ropeAndCache,
};
