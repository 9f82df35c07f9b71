import { operation, u32 } from '../contract.ts';
import { matmul } from '../matmul/index.ts';

/** Where a block begins is of no account to what multiplying with it costs. */
const whole = { firstOutput: 0 };

/**
 * The first half of a SwiGLU layer (Shazeer, arXiv 2002.05202): gate and up projection, and the gate, in one.
 *
 * The rows of `weight` alternate: 2 j is row j of the gate projection, 2 j + 1 row j of the up projection. The weight
 * may come in blocks with an even number of rows: each run multiplies with rows `firstColumn` to `firstColumn + block`
 * of the whole and fills in half as many columns of `out`.
 */
export const gatedMatmul = operation({
  name: 'gated-matmul',
  formula: 'out[r, j] = silu(sum_i x[r, i] * weight[2 j, i]) * sum_i x[r, i] * weight[2 j + 1, i]',
  tensors: matmul.tensors,
  scalars: { firstColumn: u32(0) },
  splits: { tensor: 'weight', offset: 'firstColumn' },
  constraint: ({ block, outputs }, { firstColumn }) => {
    if (block % 2 !== 0 || firstColumn % 2 !== 0) {
      return `a block of ${block} rows from ${firstColumn} on cuts a gate off from its up: both have to be even`;
    }
    return firstColumn + block > 2 * outputs
      ? `the rows [${firstColumn}, ${firstColumn + block}) of 'weight' reach beyond those of the ${outputs} columns of 'out'`
      : undefined;
  },
  // The gate takes a negation, an exponential, a sum, a quotient and a product.
  flops: (dims) => matmul.flops(dims, whole) + (5 * dims.rows * dims.block) / 2,
  bytes: (dims, dtypes) => matmul.bytes!(dims, dtypes, whole) - (4 * dims.rows * dims.block) / 2,
  cases: [
    { dims: { rows: 1, inputs: 1, block: 2, outputs: 1 } },
    { dims: { rows: 1, inputs: 67, block: 130, outputs: 65 } },
    { dims: { rows: 1, inputs: 192, block: 258, outputs: 150 }, scalars: { firstColumn: 42 } },
    { dims: { rows: 5, inputs: 68, block: 66, outputs: 33 } },
    { dims: { rows: 16, inputs: 36, block: 34, outputs: 20 }, scalars: { firstColumn: 6 } },
    { dims: { rows: 17, inputs: 513, block: 62, outputs: 31 } },
    { dims: { rows: 64, inputs: 64, block: 64, outputs: 32 } },
    { dims: { rows: 70, inputs: 96, block: 146, outputs: 75 }, scalars: { firstColumn: 4 } },
    { dims: { rows: 129, inputs: 35, block: 66, outputs: 33 } },
  ],
  benchmarks: [
    { label: 'tiny-guard mlp, 294 tokens', dims: { rows: 294, inputs: 192, block: 1024, outputs: 512 } },
    { label: 'tiny-guard mlp, 1 row', dims: { rows: 1, inputs: 192, block: 1024, outputs: 512 } },
    { label: '1b mlp, 256 tokens', dims: { rows: 256, inputs: 2048, block: 16384, outputs: 8192 } },
    { label: '1b mlp, 1 row', dims: { rows: 1, inputs: 2048, block: 16384, outputs: 8192 } },
    { label: '7b mlp, 1024 tokens', dims: { rows: 1024, inputs: 4096, block: 22016, outputs: 11008 } },
    { label: '7b mlp, 1 row', dims: { rows: 1, inputs: 4096, block: 22016, outputs: 11008 } },
  ],
  // Of a product of two: each factor errs as matmul does. WGSL grants exp an error of 3 + 2 |x| units of 2^-23, and x is
  // some 5 at most where exp(-x) still matters beside 1.
  tolerance: 2 * matmul.tolerance + 2e-6,
});
