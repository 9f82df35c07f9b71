import { f32, operation, read, write } from '../contract.ts';

/** Root mean square layer normalisation (Zhang and Sennrich, arXiv 1910.07467). */
export const rmsNorm = operation({
  name: 'rms-norm',
  formula: 'out[r, i] = x[r, i] / sqrt(mean_j(x[r, j]^2) + epsilon) * weight[i]',
  tensors: {
    x: read('f32', 'rows', 'hidden'),
    weight: read('f32', 'hidden'),
    out: write('f32', 'rows', 'hidden'),
  },
  scalars: { epsilon: f32() },
  slices: ['rows'],
  flops: ({ rows, hidden }) => rows * (4 * hidden + 3),
  cases: [
    { dims: { rows: 1, hidden: 1 }, scalars: { epsilon: 1e-5 } },
    { dims: { rows: 3, hidden: 67 }, scalars: { epsilon: 1e-5 } },
    { dims: { rows: 5, hidden: 192 }, scalars: { epsilon: 1e-6 } },
    // Beside the mean of squares, which is about 1, an epsilon of a real model would not be missed.
    { dims: { rows: 3, hidden: 20 }, scalars: { epsilon: 0.5 } },
    { dims: { rows: 2, hidden: 4096 }, scalars: { epsilon: 1e-5 } },
  ],
  benchmarks: [
    { label: 'tiny-guard prefill', dims: { rows: 294, hidden: 192 }, scalars: { epsilon: 1e-5 } },
    { label: '1b prefill', dims: { rows: 294, hidden: 2048 }, scalars: { epsilon: 1e-5 } },
    { label: '7b prefill', dims: { rows: 512, hidden: 4096 }, scalars: { epsilon: 1e-5 } },
    { label: '7b decode', dims: { rows: 1, hidden: 4096 }, scalars: { epsilon: 1e-5 } },
  ],
  tolerance: 1e-5,
});
