import { operation, read, write } from '../contract.ts';

/**
 * The gate of a SwiGLU layer (Shazeer, arXiv 2002.05202) by itself, where something is added to its projections between
 * multiplying and gating; else `gated-matmul` does both in one. Gate and up projection alternate, as there.
 */
export const gate = operation({
  name: 'gate',
  formula: 'out[r, j] = silu(x[r, j, 0]) * x[r, j, 1]',
  tensors: {
    x: read('f32', 'rows', 'width', 2),
    out: write('f32', 'rows', 'width'),
  },
  scalars: {},
  slices: ['rows'],
  // A negation, an exponential, a sum, a quotient and a product.
  flops: ({ rows, width }) => 5 * rows * width,
  cases: [
    { dims: { rows: 1, width: 1 } },
    { dims: { rows: 3, width: 67 } },
    { dims: { rows: 33, width: 64 } },
    { dims: { rows: 2, width: 11_008 } },
  ],
  benchmarks: [
    { label: '1b prefill', dims: { rows: 294, width: 8192 } },
    { label: '7b prefill', dims: { rows: 512, width: 11_008 } },
    { label: '7b decode', dims: { rows: 1, width: 11_008 } },
  ],
  // As of `gated-matmul`: WGSL grants exp an error of 3 + 2 |x| units of 2^-23.
  tolerance: 2e-6,
});
