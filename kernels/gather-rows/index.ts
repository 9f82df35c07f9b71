import { operation, read, write } from '../contract.ts';

/** Picks rows out of a matrix: only what is wanted goes through the last layer's MLP and lm_head. */
export const gatherRows = operation({
  name: 'gather-rows',
  formula: 'out[k, i] = x[rows[k], i]',
  tensors: {
    x: read('f32', 'tokens', 'width'),
    rows: read('u32', 'picks'),
    out: write('f32', 'picks', 'width'),
  },
  scalars: {},
  slices: ['picks'],
  flops: () => 0,
  bytes: ({ picks, width }) => picks * (4 + 8 * width),
  cases: [
    { dims: { tokens: 1, width: 1, picks: 1 } },
    { dims: { tokens: 17, width: 67, picks: 5 } },
    { dims: { tokens: 9, width: 192, picks: 33 } },
  ],
  benchmarks: [
    { label: 'tiny-guard, last row', dims: { tokens: 294, width: 192, picks: 1 } },
    { label: '1b, 64 rows', dims: { tokens: 4096, width: 2048, picks: 64 } },
  ],
  inputs: ({ tokens, picks }, random) => ({
    rows: Uint32Array.from({ length: picks }, () => Math.floor(random() * tokens)),
  }),
  // A copy.
  tolerance: 0,
});
