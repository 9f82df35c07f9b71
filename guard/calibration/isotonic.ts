import * as z from 'zod';
import type { Labelled } from '../evaluation/metrics.ts';
import { logOdds } from './log-odds.ts';
import type { Method } from './method.ts';

/** A score and its probability. Scores rise, probabilities do not fall. */
export type Knot = readonly [score: number, probability: number];

export interface Isotonic {
  readonly knots: readonly Knot[];
}

const unit = z.number().min(0).max(1);

/**
 * Isotonic regression (Zadrozny and Elkan 2002): of all maps that never fall, the one with the least squared error, by
 * pooling adjacent violators. Between the knots it is linear in the log-odds; before the first and after the last it is
 * level, as scikit-learn's `IsotonicRegression` with `out_of_bounds="clip"`.
 *
 * It assumes nothing, and so wants many samples, some thousand. It keeps the order of scores but makes ties of some,
 * and says 0 or 1 where the samples on that side are all of one kind.
 */
export const isotonic: Method<'labels', Isotonic> = {
  needs: 'labels',
  parameters: z.strictObject({
    knots: z
      .array(z.tuple([unit, unit]))
      .min(1)
      .refine(
        (knots) => knots.every(([x, y], i) => i === 0 || (x > knots[i - 1]![0] && y >= knots[i - 1]![1])),
        'scores must rise from knot to knot, and probabilities must not fall',
      ),
  }),
  fit: (samples) => ({ knots: pooled(samples).flatMap(knotsOf) }),
  apply: ({ knots }, score) => interpolated(knots, score),
};

/** Neighbouring scores that get one probability. */
interface Block {
  readonly low: number;
  readonly high: number;
  readonly positives: number;
  readonly count: number;
}

const rate = ({ positives, count }: Block): number => positives / count;

const union = (a: Block, b: Block): Block => ({
  low: a.low,
  high: b.high,
  positives: a.positives + b.positives,
  count: a.count + b.count,
});

/** Blocks by rising score whose rates rise, too: one that does not is pooled with those before it. */
function pooled(samples: readonly Labelled[]): Block[] {
  const blocks: Block[] = [];
  for (let block of byScore(samples)) {
    for (let last = blocks.at(-1); last && rate(last) >= rate(block); last = blocks.at(-1)) {
      block = union(last, block);
      blocks.pop();
    }
    blocks.push(block);
  }
  return blocks;
}

/** A block for each score that occurs, by rising score. */
function byScore(samples: readonly Labelled[]): Block[] {
  const blocks: Block[] = [];
  for (const { score, label } of samples.toSorted((a, b) => a.score - b.score)) {
    const own: Block = { low: score, high: score, positives: label, count: 1 };
    const last = blocks.at(-1);
    if (last?.high === score) blocks[blocks.length - 1] = union(last, own);
    else blocks.push(own);
  }
  return blocks;
}

function knotsOf(block: Block): Knot[] {
  const { low, high } = block;
  return (low === high ? [low] : [low, high]).map((score) => [score, rate(block)]);
}

function interpolated(knots: readonly Knot[], score: number): number {
  const after = firstAbove(knots, score);
  if (after === 0) return knots[0]![1];
  if (after === knots.length) return knots.at(-1)![1];
  const [[x0, y0], [x1, y1]] = [knots[after - 1]!, knots[after]!];
  const width = logOdds(x1) - logOdds(x0);
  // Scores beyond the range of log-odds have the same.
  if (width === 0) return y0;
  return Math.min(y0 + ((logOdds(score) - logOdds(x0)) / width) * (y1 - y0), y1);
}

/** The place of the first knot whose score is above this one. */
function firstAbove(knots: readonly Knot[], score: number): number {
  let [low, high] = [0, knots.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (knots[middle]![0] > score) high = middle;
    else low = middle + 1;
  }
  return low;
}
