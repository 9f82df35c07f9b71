import type { ModuleBuilder } from '../wasm/function.ts';
import { range } from '../wasm/function.ts';
import { wasmVariant } from '../wasm/kernel.ts';
import { exp, transpose } from '../wasm/mathematics.ts';
import { Address, F32, I32 } from '../wasm/scalars.ts';
import { accumulate, columnBytes, storeTile, tileColumns, tileOf } from '../wasm/tile.ts';
import { F32x4, I32x4 } from '../wasm/vectors.ts';
import { attention } from './index.ts';

/** Keys that scores are kept of at a time. */
const blockKeys = 64;
/** Blocks of eight lines in a unit of work: they share the rearranged keys. */
const blocksPerUnit = 8;
/** Rows of a tile: keys in one product, elements of a head in the other. */
const tileRows = 4;
/** The score of a key that a line does not see; far below any, and finite, so that differences are numbers. */
const unseen = -1e30;

/** The memory of a thread, in bytes from its beginning; a line is a query row of one of the heads that share a key. */
function layout(headDim: number) {
  const padded = Math.ceil(headDim / tileRows) * tileRows;
  const keys = 0; // (blockKeys / 4, headDim, 4)
  const scores = keys + 4 * blockKeys * headDim; // (blockKeys, 8), later the weights
  const correction = scores + columnBytes * blockKeys; // (8)
  const blocks = correction + columnBytes;
  // Of each block of lines: what every line has seen the most of, its sum of weights, its position.
  const [largest, total, position] = [0, columnBytes, 2 * columnBytes];
  const queries = 3 * columnBytes; // (headDim, 8)
  const sums = queries + headDim * columnBytes; // (padded, 8)
  const blockBytes = sums + padded * columnBytes;
  const bytes = blocks + blocksPerUnit * blockBytes;
  return { padded, keys, scores, correction, blocks, largest, total, position, queries, sums, blockBytes, bytes };
}

/**
 * Attention in blocks of keys with an online softmax (Milakov and Gimelshein, arXiv 1805.02867; Dao et al., arXiv
 * 2205.14135). Eight lines stand side by side in two vectors, so that maxima, exponentials and sums go down the keys
 * without crossing lanes, and both products are the tile of the matrix kernels:
 * `scores (keys, lines) = keys (keys, headDim) queries^T (headDim, lines)`,
 * `sums (headDim, lines) = values^T (headDim, keys) weights (keys, lines)`.
 */
const online = wasmVariant(attention, {
  name: 'online',
  specialise: ({ headDim }) => ({ headDim }),
  scratch: ({ headDim }) => ({ shared: 0, own: layout(headDim).bytes }),
  stages: [
    {
      // A unit is some lines of a sequence for one key-value head.
      units: ({ sequences, keyValueHeads, heads }, { longest }) =>
        sequences * keyValueHeads * Math.ceil((longest * (heads / keyValueHeads)) / (blocksPerUnit * tileColumns)),
      emit(module, main, { constants, features }) {
        const headDim = constants.headDim!;
        const at = layout(headDim);
        const relaxed = features.has('relaxed-simd');
        const packQueries = definePackQueries(module, headDim);
        const packKeys = definePackKeys(module, headDim);
        const score = defineScores(module, headDim, relaxed);
        const soften = defineSoftmax(module, at);
        const addValues = defineAddValues(module, at, relaxed);
        const write = defineWrite(module, headDim, at);

        main((kernel) => {
          const { f, scratch } = kernel;
          const [queries, keys, values] = [kernel.tensor('queries'), kernel.tensor('keys'), kernel.tensor('values')];
          const [sequences, spans, out] = [kernel.tensor('sequences'), kernel.tensor('spans'), kernel.tensor('out')];
          const [heads, keyValueHeads] = [kernel.size('heads'), kernel.size('keyValueHeads')];
          const window = kernel.size('window');
          const sharers = f.let(heads.div(keyValueHeads));
          const slotBytes = f.let(keyValueHeads.mul(4 * headDim));
          const unitLines = blocksPerUnit * tileColumns;
          const groups = f.let(
            kernel
              .size('longest')
              .mul(sharers)
              .add(unitLines - 1)
              .div(unitLines),
          );
          const blocks = f.let(scratch.add(at.blocks));

          const places = f.let(keyValueHeads.mul(kernel.size('sequences')));
          kernel.eachUnit((unit) => {
            // The last lines, which see the most keys, come first: what is left to the end should be small.
            const firstLine = f.let(groups.sub(1).sub(unit.div(places)).mul(unitLines));
            const sequence = f.let(sequences.add(unit.rem(places).div(keyValueHeads).mul(20)));
            const group = f.let(unit.rem(keyValueHeads));
            const [firstRow, rowCount, firstPosition, firstSpan, spanCount] = range(5).map(
              (i): I32 => f.let(I32.load(sequence, 4 * i)),
            ) as [I32, I32, I32, I32, I32];
            const lines = f.let(rowCount.mul(sharers));
            f.if(firstLine.lt(lines), () => {
              const endLine = f.let(firstLine.add(unitLines).min(lines));
              const blocksEnd = f.let(
                blocks.add(
                  endLine
                    .sub(firstLine)
                    .add(tileColumns - 1)
                    .div(tileColumns)
                    .mul(at.blockBytes),
                ),
              );
              const headOffset = f.let(
                firstRow
                  .mul(heads)
                  .add(group.mul(sharers))
                  .mul(4 * headDim),
              );
              const line = f.let(firstLine);
              f.for(blocks, blocksEnd, at.blockBytes, (block) => {
                f.call(packQueries, queries.add(headOffset), line, lines, sharers, heads, firstPosition, block);
                f.advance(line, tileColumns);
              });

              // The keys that the first line sees begin, and those that the last one sees end.
              const begin = f.let(oldestOf(firstPosition.add(firstLine.div(sharers)), window));
              const end = f.let(firstPosition.add(endLine.sub(1).div(sharers)).add(1));
              const key = f.let(I32.const(0));
              const span = f.let(spans.add(firstSpan.shl(3)));
              const spansEnd = f.let(span.add(spanCount.shl(3)));
              f.while(span.lt(spansEnd), () => {
                const slot = f.let(I32.load(span));
                const spanEnd = f.let(key.add(I32.load(span, 4)).min(end));
                const skipped = f.let(begin.max(key).min(spanEnd).sub(key));
                f.advance(slot, skipped);
                f.advance(key, skipped);
                f.while(key.lt(spanEnd), () => {
                  const count = f.let(spanEnd.sub(key).min(blockKeys));
                  const place = f.let(slot.mul(slotBytes).add(group.mul(4 * headDim)));
                  f.call(packKeys, keys.add(place), slotBytes, count, scratch);
                  f.for(blocks, blocksEnd, at.blockBytes, (block) => {
                    // A block sees nothing beyond its last line's position, and no keys that its first one sees no more.
                    const last = f.let(I32.load(block, at.position + 4 * (tileColumns - 1)));
                    const remembered = oldestOf(f.let(I32.load(block, at.position)), window).lt(key.add(count));
                    f.if(last.ge(key).and(remembered), () => {
                      const seen = f.let(last.sub(key).add(1).min(count));
                      f.call(score, scratch, block.add(at.queries), seen);
                      f.call(soften, scratch, block, key, seen, window);
                      f.call(addValues, scratch, block, values.add(place), slotBytes, seen);
                    });
                  });
                  f.advance(slot, count);
                  f.advance(key, count);
                });
                f.advance(span, 8);
              });

              f.set(line, firstLine);
              f.for(blocks, blocksEnd, at.blockBytes, (block) => {
                f.call(write, out.add(headOffset), line, endLine, sharers, heads, block);
                f.advance(line, tileColumns);
              });
            });
          });
        });
      },
    },
  ],
});

/** The first key that the query at a position sees. */
const oldestOf = (position: I32, window: I32): I32 => position.add(1).sub(position.add(1).min(window));

/** Where a line begins in `queries` and `out`, given where the sequence's first does. */
const placeOf = (line: I32, sharers: I32, heads: I32, headDim: number): I32 =>
  line
    .div(sharers)
    .mul(heads)
    .add(line.rem(sharers))
    .mul(4 * headDim);

/**
 * `packQueries(queries, line, lines, sharers, heads, firstPosition, block)`: eight lines, scaled, and a state in which
 * nothing has been seen. Lines beyond the last are copies of it, which nothing is written of.
 */
function definePackQueries(module: ModuleBuilder, headDim: number) {
  const at = layout(headDim);
  return module.define(
    [Address, I32, I32, I32, I32, I32, Address],
    (f, [queries, first, lines, sharers, heads, firstPosition, block]) => {
      const scale = F32.const(1 / Math.sqrt(headDim));
      f.for(0, tileColumns, 1, (column) => {
        const line = f.let(first.add(column).min(lines.sub(1)));
        const from = f.let(queries.add(placeOf(line, sharers, heads, headDim)));
        const to = f.let(block.add(column.shl(2)));
        f.store(to, F32.const(unseen), at.largest);
        f.store(to, F32.const(0), at.total);
        f.store(to, firstPosition.add(line.div(sharers)), at.position);
        f.for(0, 4 * headDim, 4, (i) =>
          f.store(to.add(i.mul(tileColumns)), F32.load(from.add(i)).mul(scale), at.queries),
        );
      });
      f.for(0, at.padded * columnBytes, 16, (i) => f.store(block.add(i), F32x4.const(0), at.sums));
    },
  );
}

/** `packKeys(keys, slotBytes, count, scratch)`: four keys side by side, element by element. */
function definePackKeys(module: ModuleBuilder, headDim: number) {
  const whole = headDim - (headDim % 4);
  return module.define([Address, I32, I32, Address], (f, [keys, slotBytes, count, scratch]) => {
    const to = f.let(scratch.add(layout(headDim).keys));
    f.for(0, count, tileRows, (key) => {
      const from = range(tileRows).map((r) => f.let(keys.add(key.add(r).min(count.sub(1)).mul(slotBytes))));
      f.for(0, 4 * whole, 16, (i) => {
        const quads = from.map((row) => F32x4.load(row.add(i)));
        for (const [j, column] of transpose(f, quads).entries()) f.store(to, column, 16 * j);
        f.advance(to, 64);
      });
      for (let i = whole; i < headDim; i++) {
        for (const [r, row] of from.entries()) f.store(to, F32.load(row, 4 * i), 4 * r);
        f.advance(to, 16);
      }
    });
  });
}

/** `score(scratch, queries, count)`: the keys' products with eight lines. */
function defineScores(module: ModuleBuilder, headDim: number, relaxed: boolean) {
  const at = layout(headDim);
  const products = module.define([Address, Address, Address, Address], (f, [x, y, end, to]) => {
    const sums = tileOf(f, tileRows, () => F32x4.const(0));
    accumulate(f, sums, { x, xBytes: 4 * tileRows, y, end }, relaxed);
    storeTile(f, sums, to);
  });
  return module.define([Address, Address, I32], (f, [scratch, queries, count]) => {
    const end = f.let(queries.add(headDim * columnBytes));
    const panel = f.let(scratch.add(at.keys));
    f.for(0, count, tileRows, (key) => {
      f.call(products, panel, queries, end, scratch.add(key.mul(columnBytes)).add(at.scores));
      f.advance(panel, 4 * tileRows * headDim);
    });
  });
}

/**
 * `soften(scratch, block, key, count, window)`: turns the scores of `count` keys from `key` on into weights,
 * exp(score - largest so far), adds them to the lines' totals and leaves in `correction` what earlier weights have to be
 * multiplied by.
 */
function defineSoftmax(module: ModuleBuilder, at: ReturnType<typeof layout>) {
  return module.define([Address, Address, I32, I32, I32], (f, [scratch, block, key, count, window]) => {
    const furthest = f.let(I32x4.splat(window.sub(1)));
    const scores = f.let(scratch.add(at.scores));
    const end = f.let(scores.add(count.mul(columnBytes)));
    for (const half of [0, 16]) {
      const before = f.let(F32x4.load(block, at.largest + half));
      const largest = f.let(before);
      // How far back the key lies; one that lies ahead is, unsigned, further off than any window.
      const distance = f.let(I32x4.load(block, at.position + half).sub(I32x4.splat(key)));
      f.for(scores, end, columnBytes, (score) => {
        const seen = distance.le(furthest).select(F32x4.load(score, half), F32x4.const(unseen));
        const value = f.let(seen);
        f.store(score, value, half);
        f.set(largest, largest.pmax(value));
        f.set(distance, distance.sub(I32x4.const(1)));
      });
      const correction = exp(f, before.sub(largest));
      const total = f.let(F32x4.load(block, at.total + half).mul(correction));
      f.for(scores, end, columnBytes, (score) => {
        const value = f.let(F32x4.load(score, half));
        const weight = f.let(exp(f, value.sub(largest)).and(value.ge(F32x4.const(unseen / 2))));
        f.store(score, weight, half);
        f.set(total, total.add(weight));
      });
      f.store(scratch, correction, at.correction + half);
      f.store(block, largest, at.largest + half);
      f.store(block, total, at.total + half);
    }
  });
}

/** `addValues(scratch, block, values, slotBytes, count)`: corrects the sums and adds the weighted values. */
function defineAddValues(module: ModuleBuilder, at: ReturnType<typeof layout>, relaxed: boolean) {
  const products = module.define(
    [Address, I32, Address, Address, Address, Address],
    (f, [x, xBytes, y, end, correction, to]) => {
      const corrections = [0, 16].map((half) => f.let(F32x4.load(correction, half)));
      const sums = tileOf(f, tileRows, (r, v) => F32x4.load(to, columnBytes * r + 16 * v).mul(corrections[v]!));
      accumulate(f, sums, { x, xBytes, y, end }, relaxed);
      storeTile(f, sums, to);
    },
  );
  return module.define([Address, Address, Address, I32, I32], (f, [scratch, block, values, slotBytes, count]) => {
    const weights = f.let(scratch.add(at.scores));
    const end = f.let(weights.add(count.mul(columnBytes)));
    const correction = scratch.add(at.correction);
    f.for(0, at.padded, tileRows, (i) => {
      const to = block.add(i.mul(columnBytes)).add(at.sums);
      f.call(products, values.add(i.shl(2)), slotBytes, weights, end, correction, to);
    });
  });
}

/** `write(out, line, endLine, sharers, heads, block)`: the sums over their totals. */
function defineWrite(module: ModuleBuilder, headDim: number, at: ReturnType<typeof layout>) {
  return module.define([Address, I32, I32, I32, I32, Address], (f, [out, first, endLine, sharers, heads, block]) => {
    f.for(0, endLine.sub(first).min(tileColumns), 1, (column) => {
      const to = f.let(out.add(placeOf(f.let(first.add(column)), sharers, heads, headDim)));
      const from = f.let(block.add(column.shl(2)));
      const scale = f.let(F32.const(1).div(F32.load(from, at.total)));
      f.for(0, 4 * headDim, 4, (i) => f.store(to.add(i), F32.load(from.add(i.mul(tileColumns)), at.sums).mul(scale)));
    });
  });
}

export const variants = [online];
