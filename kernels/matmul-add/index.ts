import { operation, update } from '../contract.ts';
import { matmul } from '../matmul/index.ts';

/** A linear layer that ends in the residual stream: `out` comes with the stream and goes with the layer added to it. */
export const matmulAdd = operation({
  ...matmul,
  name: 'matmul-add',
  formula: 'out[r, firstOutput + j] += sum_i x[r, i] * weight[j, i]',
  tensors: { ...matmul.tensors, out: update('f32', 'rows', 'outputs') },
  flops: (dims, scalars) => matmul.flops(dims, scalars) + dims.rows * dims.block,
  bytes: (dims, dtypes, scalars) => matmul.bytes!(dims, dtypes, scalars) + 4 * dims.rows * dims.block,
  benchmarks: [
    { label: 'tiny-guard mlp down, 294 tokens', dims: { rows: 294, inputs: 512, block: 192, outputs: 192 } },
    { label: 'tiny-guard mlp down, 1 row', dims: { rows: 1, inputs: 512, block: 192, outputs: 192 } },
    { label: '1b mlp down, 256 tokens', dims: { rows: 256, inputs: 8192, block: 2048, outputs: 2048 } },
    { label: '1b mlp down, 1 row', dims: { rows: 1, inputs: 8192, block: 2048, outputs: 2048 } },
    { label: '7b mlp down, 1024 tokens', dims: { rows: 1024, inputs: 11008, block: 4096, outputs: 4096 } },
    { label: '7b mlp down, 1 row', dims: { rows: 1, inputs: 11008, block: 4096, outputs: 4096 } },
  ],
});
