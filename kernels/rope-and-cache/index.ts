import { operation, read, write } from '../contract.ts';

export { type RopeScaling, ropeFrequencies, ropeTables } from './tables.ts';

/**
 * What stands between the projections and attention: the queries and keys of each token are turned by rotary position
 * embedding (Su et al., arXiv 2104.09864), in the half-split layout of Hugging Face checkpoints, where element i of a
 * head is rotated together with element i + headDim / 2; keys and values go to the token's slot of their cache.
 *
 * A row of `projections` holds the token's query heads, then its key heads, then its value heads. Slots that are not
 * named stay as they were; a token whose slot lies beyond the cache, as of rows that only pad a batch, is not kept.
 */
export const ropeAndCache = operation({
  name: 'rope-and-cache',
  formula:
    'queries[t] = turn(q(t), positions[t]); keys[slots[t]] = turn(k(t), positions[t]); values[slots[t]] = v(t); ' +
    'turn: (a, b) = (x[i], x[i + half]), (c, s) = (cos, sin)[position, i] -> (a c - b s, b c + a s)',
  tensors: {
    projections: read('f32', 'tokens', 'width'),
    positions: read('u32', 'tokens'),
    slots: read('u32', 'tokens'),
    cos: read('f32', 'contextLength', 'half'),
    sin: read('f32', 'contextLength', 'half'),
    queries: write('f32', 'tokens', 'heads', 'headDim'),
    keys: write('f32', 'capacity', 'keyValueHeads', 'headDim'),
    values: write('f32', 'capacity', 'keyValueHeads', 'headDim'),
  },
  scalars: {},
  constraint: ({ width, heads, keyValueHeads, headDim, half }) =>
    headDim !== 2 * half
      ? `headDim is ${headDim}, which is not twice the ${half} columns of the tables`
      : width !== (heads + 2 * keyValueHeads) * headDim
        ? `a row of ${width} does not hold ${heads} query, ${keyValueHeads} key and ${keyValueHeads} value heads of ${headDim}`
        : undefined,
  flops: ({ tokens, heads, keyValueHeads, half }) => 6 * tokens * (heads + keyValueHeads) * half,
  bytes: ({ tokens, width, headDim }) => tokens * (8 + 8 * width + 4 * headDim),
  cases: [
    { dims: layout({ tokens: 1, heads: 1, keyValueHeads: 1, half: 1, contextLength: 1, capacity: 1 }) },
    { dims: layout({ tokens: 7, heads: 3, keyValueHeads: 1, half: 5, contextLength: 19, capacity: 7 }) },
    { dims: layout({ tokens: 33, heads: 6, keyValueHeads: 6, half: 16, contextLength: 64, capacity: 40 }) },
    { dims: layout({ tokens: 3, heads: 5, keyValueHeads: 5, half: 40, contextLength: 512, capacity: 9 }) },
    { dims: layout({ tokens: 12, heads: 4, keyValueHeads: 2, half: 8, contextLength: 32, capacity: 20 }) },
  ],
  benchmarks: [
    {
      label: 'tiny-guard prefill',
      dims: layout({ tokens: 294, heads: 6, keyValueHeads: 6, half: 16, contextLength: 1024, capacity: 4096 }),
    },
    {
      label: '1b prefill',
      dims: layout({ tokens: 294, heads: 32, keyValueHeads: 8, half: 32, contextLength: 4096, capacity: 4096 }),
    },
  ],
  // Slots are distinct, as two tokens in one slot would have no defined winner; some lie beyond the cache.
  inputs: ({ tokens, contextLength, capacity }, random) => ({
    positions: Uint32Array.from({ length: tokens }, () => Math.floor(random() * contextLength)),
    slots: shuffled(capacity, random)
      .subarray(0, tokens)
      .map((slot, i) => (i % 5 === 4 ? 0xffff_ffff : slot)),
  }),
  // Two products and a sum, each rounded once: under 2 units of 2^-24 of (|a| + |b|) * max(|cos|, |sin|).
  tolerance: 1e-6,
});

type Sizes = Record<'tokens' | 'heads' | 'keyValueHeads' | 'half' | 'contextLength' | 'capacity', number>;

function layout(sizes: Sizes) {
  const headDim = 2 * sizes.half;
  return { ...sizes, headDim, width: (sizes.heads + 2 * sizes.keyValueHeads) * headDim };
}

/** The numbers below `count` in random order (Fisher and Yates). */
function shuffled(count: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
