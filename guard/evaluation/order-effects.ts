import type { Run } from './run.ts';

/** How far the scores of samples depend on the order of the categories, where several orders were read. */
export interface OrderEffects {
  /** Samples that were read in several orders. */
  readonly samples: number;
  /** Orders of a sample, the most of any. */
  readonly orders: number;
  /** Mean over the samples of a score's standard deviation over the orders. */
  readonly meanDeviation: number;
  /** Mean, and largest, of the distance between a sample's lowest and highest score. */
  readonly meanRange: number;
  readonly largestRange: number;
  /** Samples that some orders flag at the threshold and others do not. */
  readonly undecided: number;
}

/** Null where no sample was read in several orders. */
export function orderEffects({ rows, threshold }: Pick<Run, 'rows' | 'threshold'>): OrderEffects | null {
  const spreads = rows.flatMap(({ orders }) => (orders ? [orders] : []));
  if (spreads.length === 0) return null;
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ranges = spreads.map(({ min, max }) => max - min);
  return {
    samples: spreads.length,
    orders: spreads.reduce((most, { count }) => Math.max(most, count), 0),
    meanDeviation: mean(spreads.map(({ deviation }) => deviation)),
    meanRange: mean(ranges),
    largestRange: ranges.reduce((largest, range) => Math.max(largest, range), 0),
    undecided: spreads.filter(({ min, max }) => min < threshold && threshold <= max).length,
  };
}
