import { type Operation, operation, read, type Scalars, storedBytes, u32, weightDTypes, write } from '../contract.ts';

/**
 * A linear layer without bias; `weight` is stored as in the checkpoint, one row per output. The weight may come in
 * blocks of rows: each run fills in `block` columns of `out` from `firstOutput` on.
 */
export const matmul = operation({
  name: 'matmul',
  formula: 'out[r, firstOutput + j] = sum_i x[r, i] * weight[j, i]',
  tensors: {
    x: read('f32', 'rows', 'inputs'),
    weight: read(weightDTypes, 'block', 'inputs'),
    out: write('f32', 'rows', 'outputs'),
  },
  scalars: { firstOutput: u32(0) },
  splits: { tensor: 'weight', offset: 'firstOutput' },
  constraint: ({ block, outputs }, { firstOutput }) =>
    firstOutput + block > outputs
      ? `the block of outputs [${firstOutput}, ${firstOutput + block}) reaches beyond the ${outputs} columns of 'out'`
      : undefined,
  slices: ['rows'],
  flops: ({ rows, inputs, block }) => 2 * rows * inputs * block,
  bytes: ({ rows, inputs, block }, { weight }) => 4 * rows * (inputs + block) + storedBytes(weight, [block, inputs]),
  cases: [
    { dims: { rows: 1, inputs: 1, block: 1, outputs: 1 } },
    { dims: { rows: 1, inputs: 67, block: 131, outputs: 131 } },
    { dims: { rows: 1, inputs: 192, block: 257, outputs: 300 }, scalars: { firstOutput: 41 } },
    { dims: { rows: 5, inputs: 68, block: 66, outputs: 66 } },
    { dims: { rows: 16, inputs: 36, block: 33, outputs: 40 }, scalars: { firstOutput: 7 } },
    { dims: { rows: 17, inputs: 513, block: 65, outputs: 65 } },
    { dims: { rows: 64, inputs: 64, block: 64, outputs: 64 } },
    { dims: { rows: 70, inputs: 96, block: 147, outputs: 150 }, scalars: { firstOutput: 2 } },
    { dims: { rows: 67, inputs: 132, block: 130, outputs: 133 }, scalars: { firstOutput: 3 } },
    { dims: { rows: 129, inputs: 35, block: 63, outputs: 63 } },
  ],
  benchmarks: [
    { label: 'tiny-guard mlp up, 294 tokens', dims: { rows: 294, inputs: 192, block: 512, outputs: 512 } },
    { label: 'tiny-guard mlp down, 294 tokens', dims: { rows: 294, inputs: 512, block: 192, outputs: 192 } },
    { label: 'tiny-guard mlp up, 66 tokens', dims: { rows: 66, inputs: 192, block: 512, outputs: 512 } },
    { label: 'tiny-guard lm_head, 1 row', dims: { rows: 1, inputs: 192, block: 4096, outputs: 4096 } },
    { label: '256 x 1024 x 1024', dims: { rows: 256, inputs: 1024, block: 1024, outputs: 1024 } },
    { label: '512 x 1024 x 1024', dims: { rows: 512, inputs: 1024, block: 1024, outputs: 1024 } },
    { label: '512 x 2048 x 2048', dims: { rows: 512, inputs: 2048, block: 2048, outputs: 2048 } },
    { label: '1b mlp up, 66 tokens', dims: { rows: 66, inputs: 2048, block: 8192, outputs: 8192 } },
    { label: '1b mlp up, 1 row', dims: { rows: 1, inputs: 2048, block: 8192, outputs: 8192 } },
    { label: '7b attention, 1 row', dims: { rows: 1, inputs: 4096, block: 4096, outputs: 4096 } },
    { label: '7b attention, 1024 tokens', dims: { rows: 1024, inputs: 4096, block: 4096, outputs: 4096 } },
    { label: '1b mlp up, 512 tokens', dims: { rows: 512, inputs: 2048, block: 8192, outputs: 8192 } },
    { label: '7b attention, 512 tokens', dims: { rows: 512, inputs: 4096, block: 4096, outputs: 4096 } },
    { label: '7b mlp up, 512 tokens', dims: { rows: 512, inputs: 4096, block: 11_008, outputs: 11_008 } },
    { label: '7b mlp down, 512 tokens', dims: { rows: 512, inputs: 11_008, block: 4096, outputs: 4096 } },
    { label: '7b mlp up, 1 row', dims: { rows: 1, inputs: 4096, block: 11_008, outputs: 11_008 } },
  ],
  // A sum of n products of independent numbers errs by some sqrt(n) / 5 units of 2^-23 of its own deviation:
  // 1e-6 at n = 2048. The rest is room for unlucky draws and sums that happen to be small.
  tolerance: 1e-5,
});

export type MatmulTensors = (typeof matmul)['tensors'];

/** matmul, or an operation that differs from it only in what becomes of the products: in its `Epilogue`. */
export type MatmulLike<S extends Scalars> = Operation<MatmulTensors, S>;
