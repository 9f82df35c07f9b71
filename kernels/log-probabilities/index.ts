import { operation, read, write } from '../contract.ts';

/**
 * Log-probabilities of some tokens under the softmax over the whole vocabulary. Logits may be large (1e4 and more)
 * and may be -Infinity, as long as each row holds a finite one.
 */
export const logProbabilities = operation({
  name: 'log-probabilities',
  formula: 'out[r, k] = logits[r, ids[r, k]] - log(sum_v exp(logits[r, v]))',
  tensors: {
    logits: read('f32', 'rows', 'vocabulary'),
    ids: read('u32', 'rows', 'picks'),
    out: write('f32', 'rows', 'picks'),
  },
  scalars: {},
  slices: ['rows'],
  flops: ({ rows, vocabulary, picks }) => rows * (4 * vocabulary + 2 * picks),
  cases: [
    { dims: { rows: 1, vocabulary: 1, picks: 1 } },
    { dims: { rows: 3, vocabulary: 67, picks: 5 } },
    { dims: { rows: 7, vocabulary: 4096, picks: 2 } },
    { dims: { rows: 2, vocabulary: 1001, picks: 300 } },
  ],
  benchmarks: [
    { label: 'tiny-guard, 1 row', dims: { rows: 1, vocabulary: 4096, picks: 2 } },
    { label: '7b, 16 rows', dims: { rows: 16, vocabulary: 32_000, picks: 16 } },
  ],
  // Rows around 0, 1e4 and -1e4 in turn; one logit in eight is masked out, never a row's first.
  inputs: ({ rows, vocabulary, picks }, random) => ({
    logits: Float32Array.from({ length: rows * vocabulary }, (_, at) => {
      const centre = [0, 1e4, -1e4][Math.floor(at / vocabulary) % 3]!;
      return at % vocabulary > 0 && random() < 0.125 ? Number.NEGATIVE_INFINITY : centre + 20 * (random() - 0.5);
    }),
    ids: Uint32Array.from({ length: rows * picks }, () => Math.floor(random() * vocabulary)),
  }),
  // The difference from the largest logit is exact or rounded once; exp and log are the device's: 3 + 2 |x| units of
  // 2^-23 on terms of relative weight exp(-|x|), and an absolute 2^-21 from log near 1.
  tolerance: 3e-6,
});
