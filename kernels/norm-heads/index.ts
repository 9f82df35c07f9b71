import { f32, operation, read, u32, update } from '../contract.ts';

/**
 * RMS normalisation of every query head and every key head by itself, before RoPE turns them: it bounds the scores of
 * attention (Dehghani et al., arXiv 2302.05442; Qwen3, arXiv 2505.09388).
 *
 * A row of `projections` holds the token's query heads, then its key heads, then its value heads, which stay as they are.
 */
export const normHeads = operation({
  name: 'norm-heads',
  formula:
    'x / sqrt(mean(x^2) + epsilon) * w for each head x of projections[t], ' +
    'w = queryNorm for the first heads, keyNorm for the keyValueHeads after them',
  tensors: {
    queryNorm: read('f32', 'headDim'),
    keyNorm: read('f32', 'headDim'),
    projections: update('f32', 'tokens', 'width'),
  },
  scalars: { heads: u32(), keyValueHeads: u32(), epsilon: f32() },
  constraint: ({ width, headDim }, { heads, keyValueHeads }) =>
    width !== (heads + 2 * keyValueHeads) * headDim
      ? `a row of ${width} does not hold ${heads} query, ${keyValueHeads} key and ${keyValueHeads} value heads of ${headDim}`
      : undefined,
  slices: ['tokens'],
  flops: ({ tokens, headDim }, { heads, keyValueHeads }) => tokens * (heads + keyValueHeads) * (4 * headDim + 3),
  bytes: ({ tokens, headDim }, _, { heads, keyValueHeads }) => 8 * (tokens * (heads + keyValueHeads) + 1) * headDim,
  cases: [
    layout({ tokens: 1, heads: 1, keyValueHeads: 1, headDim: 2, epsilon: 1e-6 }),
    layout({ tokens: 7, heads: 3, keyValueHeads: 1, headDim: 10, epsilon: 1e-6 }),
    layout({ tokens: 19, heads: 6, keyValueHeads: 3, headDim: 64, epsilon: 1e-5 }),
    layout({ tokens: 3, heads: 4, keyValueHeads: 4, headDim: 80, epsilon: 0.5 }),
    layout({ tokens: 12, heads: 16, keyValueHeads: 8, headDim: 128, epsilon: 1e-6 }),
    layout({ tokens: 5, heads: 2, keyValueHeads: 1, headDim: 256, epsilon: 1e-6 }),
  ],
  benchmarks: [
    {
      label: 'Qwen3-0.6B prefill',
      ...layout({ tokens: 294, heads: 16, keyValueHeads: 8, headDim: 128, epsilon: 1e-6 }),
    },
    { label: 'Qwen3-8B prefill', ...layout({ tokens: 512, heads: 32, keyValueHeads: 8, headDim: 128, epsilon: 1e-6 }) },
    { label: 'Qwen3-8B decode', ...layout({ tokens: 1, heads: 32, keyValueHeads: 8, headDim: 128, epsilon: 1e-6 }) },
  ],
  tolerance: 1e-5,
});

type Sizes = Record<'tokens' | 'heads' | 'keyValueHeads' | 'headDim' | 'epsilon', number>;

function layout({ tokens, headDim, ...scalars }: Sizes) {
  return { dims: { tokens, headDim, width: (scalars.heads + 2 * scalars.keyValueHeads) * headDim }, scalars };
}
