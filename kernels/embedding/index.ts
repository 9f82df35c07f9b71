import { operation, read, storedBytes, u32, weightDTypes, write } from '../contract.ts';

/**
 * Rows of an embedding table by token id. The table may come in blocks of rows: each run fills in the tokens whose
 * ids lie in [firstId, firstId + block) and leaves the other rows of `out` as they were.
 */
export const embedding = operation({
  name: 'embedding',
  formula: 'out[t, i] = table[ids[t] - firstId, i]',
  tensors: {
    table: read(weightDTypes, 'block', 'hidden'),
    ids: read('u32', 'tokens'),
    out: write('f32', 'tokens', 'hidden'),
  },
  scalars: { firstId: u32(0) },
  splits: { tensor: 'table', offset: 'firstId' },
  slices: ['tokens'],
  flops: () => 0,
  bytes: ({ tokens, hidden }, { table }) => 4 * tokens * (1 + hidden) + storedBytes(table, [tokens, hidden]),
  cases: [
    { dims: { block: 1, hidden: 1, tokens: 1 } },
    { dims: { block: 11, hidden: 67, tokens: 9 } },
    { dims: { block: 20, hidden: 192, tokens: 33 }, scalars: { firstId: 13 } },
  ],
  benchmarks: [
    { label: 'tiny-guard prefill', dims: { block: 4096, hidden: 192, tokens: 294 } },
    { label: '1b prefill', dims: { block: 16_384, hidden: 2048, tokens: 294 } },
    { label: '7b prefill', dims: { block: 32_000, hidden: 4096, tokens: 512 } },
    { label: '7b decode', dims: { block: 32_000, hidden: 4096, tokens: 1 } },
  ],
  // Ids on both sides of the block, where there is room for them.
  inputs: ({ block, tokens }, random, { firstId }) => ({
    ids: Uint32Array.from({ length: tokens }, () => Math.floor(firstId / 2 + random() * (block + firstId))),
  }),
  // A copy; decoding rounds at most once, to the nearest f32.
  tolerance: 0,
});
