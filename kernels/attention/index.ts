import { type Dims, operation, read, type Tensors, u32, write } from '../contract.ts';

const tensors = {
  queries: read('f32', 'tokens', 'heads', 'headDim'),
  keys: read('f32', 'slots', 'keyValueHeads', 'headDim'),
  values: read('f32', 'slots', 'keyValueHeads', 'headDim'),
  /** Rows of (firstRow, rowCount, firstPosition, firstSpan, spanCount). */
  sequences: read('u32', 'sequences', 5),
  /** Rows of (firstSlot, length). */
  spans: read('u32', 'spans', 2),
  out: write('f32', 'tokens', 'heads', 'headDim'),
} satisfies Tensors;

/** What the cases of windows share. */
const windowed = { sequences: 1, heads: 4, keyValueHeads: 2 };

/** A window that nothing falls out of: no context has as many positions. */
export const everything = 2 ** 31;

/**
 * Causal attention of a packed batch over lists of key-value spans, with grouped-query heads (arXiv 2305.13245).
 *
 * A sequence owns the query rows [firstRow, firstRow + rowCount); row firstRow + n stands at position
 * firstPosition + n. Its context is its spans, one after another; spans of several sequences may name the same slots.
 * A key's position is its place in that context, wherever its slot lies. The query at position p attends to the keys at
 * positions j <= p with p - j < window (arXiv 2310.06825): to the last `window` keys, its own among them.
 */
export const attention = operation({
  name: 'attention',
  formula:
    'out[r, h] = sum_j softmax_j(queries[r, h] . keys[slot(j), g] / sqrt(headDim)) values[slot(j), g], ' +
    '0 <= position(r) - j < window',
  tensors,
  scalars: {
    /** Query rows of the sequence that has most; sizes the dispatch. */
    longest: u32(),
    /** Keys that a query sees at most. */
    window: u32(everything),
  },
  constraint: ({ heads, keyValueHeads, headDim }, { window }) =>
    heads % keyValueHeads !== 0
      ? `${heads} query heads cannot share ${keyValueHeads} key-value heads evenly`
      : headDim % 2 !== 0 || headDim > 256
        ? `headDim is ${headDim}, but must be even and at most 256`
        : window < 1 || window > everything
          ? `window is ${window}, but must be at least 1 and at most 2^31`
          : undefined,
  slices: ['heads', 'keyValueHeads'],
  // The lengths stand in a tensor, so these are for what `inputs` lays out, with sequences of equal length: a query
  // attends to the slots that hold no new token and to its sequence's own tokens up to itself, or to a window of them;
  // each takes headDim multiply-adds for the score, an exponential, and headDim multiply-adds for the value.
  flops: ({ tokens, slots, sequences, heads, headDim }, { window }) => {
    const [rows, prefix] = [tokens / sequences, slots - tokens];
    const seeAll = Math.min(Math.max(window - prefix, 0), rows);
    const keys = seeAll * (prefix + (seeAll + 1) / 2) + (rows - seeAll) * window;
    return sequences * keys * heads * (4 * headDim + 1);
  },
  cases: [
    layout({ sequences: 1, tokens: 1, prefix: 0, spans: 1, heads: 1, keyValueHeads: 1, headDim: 2, longest: 1 }),
    layout({ sequences: 1, tokens: 1, prefix: 70, spans: 3, heads: 4, keyValueHeads: 2, headDim: 16, longest: 1 }),
    layout({ sequences: 1, tokens: 67, prefix: 0, spans: 1, heads: 2, keyValueHeads: 1, headDim: 32, longest: 67 }),
    layout({ sequences: 3, tokens: 40, prefix: 33, spans: 9, heads: 6, keyValueHeads: 6, headDim: 32, longest: 19 }),
    layout({ sequences: 5, tokens: 9, prefix: 130, spans: 20, heads: 4, keyValueHeads: 1, headDim: 64, longest: 3 }),
    layout({ sequences: 2, tokens: 45, prefix: 30, spans: 6, heads: 4, keyValueHeads: 2, headDim: 64, longest: 40 }),
    layout({ sequences: 2, tokens: 35, prefix: 2, spans: 10, heads: 3, keyValueHeads: 3, headDim: 80, longest: 34 }),
    layout({ sequences: 2, tokens: 21, prefix: 31, spans: 6, heads: 2, keyValueHeads: 2, headDim: 6, longest: 20 }),
    layout({ sequences: 1, tokens: 18, prefix: 17, spans: 2, heads: 2, keyValueHeads: 1, headDim: 128, longest: 18 }),
    layout({ sequences: 2, tokens: 19, prefix: 40, spans: 4, heads: 2, keyValueHeads: 1, headDim: 256, longest: 17 }),
    // Windows: of one key, ending within spans and tiles, leaving whole spans and blocks behind, as wide as the context.
    layout({ ...windowed, tokens: 67, prefix: 0, spans: 1, headDim: 32, longest: 67, window: 1 }),
    layout({ ...windowed, tokens: 90, prefix: 200, spans: 7, headDim: 64, longest: 90, window: 5 }),
    layout({ ...windowed, sequences: 3, tokens: 40, prefix: 33, spans: 9, headDim: 32, longest: 19, window: 17 }),
    layout({ ...windowed, sequences: 5, tokens: 9, prefix: 130, spans: 20, headDim: 64, longest: 3, window: 70 }),
    layout({ ...windowed, tokens: 21, prefix: 150, spans: 4, headDim: 6, longest: 21, window: 33 }),
    layout({ ...windowed, tokens: 1, prefix: 170, spans: 3, headDim: 128, longest: 1, window: 65 }),
    layout({ ...windowed, tokens: 30, prefix: 20, spans: 2, headDim: 80, longest: 30, window: 50 }),
  ],
  benchmarks: [
    {
      label: 'tiny-guard prefill',
      ...layout({
        sequences: 1,
        tokens: 294,
        prefix: 0,
        spans: 1,
        heads: 6,
        keyValueHeads: 6,
        headDim: 32,
        longest: 294,
      }),
    },
    {
      label: 'tiny-guard after the policy',
      ...layout({
        sequences: 1,
        tokens: 66,
        prefix: 228,
        spans: 2,
        heads: 6,
        keyValueHeads: 6,
        headDim: 32,
        longest: 66,
      }),
    },
    {
      label: 'tiny-guard, 8 branches',
      ...layout({
        sequences: 8,
        tokens: 32,
        prefix: 294,
        spans: 24,
        heads: 6,
        keyValueHeads: 6,
        headDim: 32,
        longest: 4,
      }),
    },
    {
      label: '1b after the policy',
      ...layout({
        sequences: 1,
        tokens: 66,
        prefix: 446,
        spans: 2,
        heads: 32,
        keyValueHeads: 8,
        headDim: 64,
        longest: 66,
      }),
    },
    {
      label: '1b after the policy, window of 128',
      ...layout({
        sequences: 1,
        tokens: 66,
        prefix: 446,
        spans: 2,
        heads: 32,
        keyValueHeads: 8,
        headDim: 64,
        longest: 66,
        window: 128,
      }),
    },
    {
      label: '7b prefill',
      ...layout({
        sequences: 1,
        tokens: 512,
        prefix: 0,
        spans: 1,
        heads: 32,
        keyValueHeads: 32,
        headDim: 128,
        longest: 512,
      }),
    },
    {
      label: '7b decode',
      ...layout({
        sequences: 1,
        tokens: 1,
        prefix: 511,
        spans: 2,
        heads: 32,
        keyValueHeads: 32,
        headDim: 128,
        longest: 1,
      }),
    },
  ],
  inputs: (dims, random, { longest }) => metadata(dims, longest, random),
  // Scores err by some sqrt(headDim) units of 2^-24 of |q||k| / sqrt(headDim), a few 1e-6 here; exp turns that into a
  // relative error of a weight, and WGSL adds 3 + 2 |x| units of 2^-23 for exp itself.
  tolerance: 1e-5,
});

type Layout = Omit<Dims<typeof tensors>, 'slots'> & {
  readonly prefix: number;
  readonly longest: number;
  readonly window?: number;
};

/** A case whose slots hold `prefix` shared keys and one key for each new token. */
function layout({ prefix, longest, window = everything, ...dims }: Layout) {
  return { dims: { ...dims, slots: prefix + dims.tokens }, scalars: { longest, window } };
}

/**
 * Sequences that share a prefix: slots [0, tokens) hold the new tokens, the prefix comes after them, cut into spans
 * that lie in reverse order. The first sequence has the `longest` rows and the others share the rest.
 */
function metadata({ tokens, slots, sequences, spans }: Dims<typeof tensors>, longest: number, random: () => number) {
  const perSequence = Math.floor(spans / sequences);
  const prefix = slots - tokens;
  const cuts = Array.from({ length: perSequence - 2 }, () => tokens + Math.floor(random() * (prefix + 1)));
  const edges = perSequence < 2 ? [] : [tokens, ...cuts.sort((a, b) => a - b), slots];
  const shared = edges.slice(1).map((end, i) => [edges[i]!, end - edges[i]!] as const);
  const sequenceRows: number[] = [];
  const spanRows: number[] = [];
  for (let sequence = 0, row = 0; sequence < sequences; sequence++) {
    const others = sequences - Math.max(sequence, 1);
    const rows = sequence === 0 ? longest : Math.ceil((tokens - row) / others);
    sequenceRows.push(row, rows, prefix, spanRows.length / 2, perSequence);
    spanRows.push(...shared.toReversed().flat(), row, rows);
    row += rows;
  }
  const unused = new Array(2 * spans - spanRows.length).fill(0);
  return { sequences: Uint32Array.from(sequenceRows), spans: Uint32Array.from([...spanRows, ...unused]) };
}
