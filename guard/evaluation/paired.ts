import { seededRandom } from '../../kernels/random.ts';
import { type BootstrapOptions, type Interval, percentileInterval, resamplesOf, settingsOf } from './bootstrap.ts';
import { holm } from './holm.ts';
import {
  type ComparedMetric,
  definedMetrics,
  type LaidOut,
  layOut,
  type MetricValues,
  type Pair,
  probabilityValues,
  rankingValues,
  undrawn,
  valuesOf,
} from './laid-out.ts';

/** Two systems on the same samples. */
export interface Pairing {
  readonly pairs: readonly Pair[];
  /** Those wanted; what the samples do not define is left out. */
  readonly metrics: readonly ComparedMetric[];
}

/** One metric of two systems on the same samples. */
export interface PairedFigure {
  readonly metric: ComparedMetric;
  readonly before: Interval;
  readonly after: Interval;
  /** `after - before`, with the interval of the paired bootstrap. */
  readonly difference: Interval;
  /** How likely so large a difference is where the two are exchangeable; null of ECE, which has no test. */
  readonly p: number | null;
  /** The same, adjusted for all tests of the family. */
  readonly pHolm: number | null;
  /** Whether `pHolm` is below 0.05, and the difference not too small to matter (`negligible`). */
  readonly beyondChance: boolean | null;
}

/** Differences below half of the last decimal that tables show are rounding, however regular. */
export const negligible = 0.00005;

/** Exceedances after which a p-value is known well enough (Besag and Clifford 1991); its standard error is 14%. */
const enough = 50;
/** Swaps for each test of a family: one of so many may exceed a difference that is still beyond chance once adjusted. */
const swapsPerTest = 50;

/**
 * Compares two systems on several sets of samples, as one family of tests. Each pairing is resampled once, for both systems
 * and all metrics.
 *
 * Intervals are those of the paired bootstrap. p-values are of a paired permutation test, two-sided: were the two the same,
 * any sample's answers could as well be swapped (Noreen 1989; of F1 Yeh 2000, arXiv cs/0008005). Of Brier score and log
 * loss the samples' losses are swapped, of F1 the decisions, and of what ranks the samples' ranks, so that systems need no
 * common scale (Bandos, Rockette and Gur 2005). ECE has no such test: it is biased upwards by as much as scores are spread
 * over the bins, so that of two perfectly calibrated systems the one that knows less has the lower one.
 *
 * @returns the figures of each pairing in turn, and how many tests the family has
 */
export function comparePaired(
  pairings: readonly Pairing[],
  options: BootstrapOptions = {},
): { readonly figures: PairedFigure[][]; readonly tests: number } {
  const laidOut = pairings.map(({ pairs, metrics }) => {
    const both = layOut(pairs);
    const defined = definedMetrics(pairs, both);
    return { pairs, both, metrics: metrics.filter((metric) => defined.includes(metric)) };
  });
  const tests = laidOut.reduce((sum, { metrics }) => sum + metrics.filter(isTested).length, 0);
  const swaps = Math.max(settingsOf(options).resamples, swapsPerTest * tests);
  const figures = laidOut.map(({ pairs, both, metrics }) => {
    const intervals = intervalsOf(pairs, both, metrics, options);
    const pValues = pValuesOf(both, metrics.filter(isTested), swaps, settingsOf(options).seed);
    return intervals.map((figure) => ({ ...figure, p: pValues.get(figure.metric) ?? null }));
  });
  const adjusted = holm(figures.flat().flatMap(({ p }) => (p === null ? [] : [p])));
  let next = 0;
  return {
    tests,
    figures: figures.map((own) =>
      own.map((figure) => {
        if (figure.p === null) return { ...figure, pHolm: null, beyondChance: null };
        const pHolm = adjusted[next++]!;
        return { ...figure, pHolm, beyondChance: pHolm < 0.05 && Math.abs(figure.difference.estimate) >= negligible };
      }),
    ),
  };
}

const isTested = (metric: ComparedMetric): boolean => metric !== 'ece';

function intervalsOf(
  pairs: readonly Pair[],
  both: LaidOut,
  metrics: readonly ComparedMetric[],
  options: BootstrapOptions,
): Omit<PairedFigure, 'p' | 'pHolm' | 'beyondChance'>[] {
  const { swapped, counts: once } = undrawn(pairs.length);
  const figures = (counts: Uint16Array): readonly [before: MetricValues, after: MetricValues] => [
    valuesOf(both, 0, { counts, swapped }),
    valuesOf(both, 1, { counts, swapped }),
  ];
  const own = figures(once);
  const drawn = Array.from(resamplesOf(pairs, options), figures);
  return metrics.map((metric) => {
    const interval = (value: (figures: readonly [MetricValues, MetricValues]) => number): Interval => ({
      estimate: value(own),
      ...percentileInterval(drawn.map(value), options),
    });
    return {
      metric,
      before: interval(([before]) => before[metric]),
      after: interval(([, after]) => after[metric]),
      difference: interval(([before, after]) => after[metric] - before[metric]),
    };
  });
}

/**
 * The share of swaps with a difference as large: sequentially, until `enough` are, else with the observed one among them
 * (Phipson and Smyth 2010), so that no p-value is zero.
 */
function pValuesOf(
  both: LaidOut,
  metrics: readonly ComparedMetric[],
  swaps: number,
  seed: number,
): ReadonlyMap<ComparedMetric, number> {
  const random = seededRandom(seed);
  const { counts, swapped } = undrawn(both.labels.length);
  const differences = (of: (typeof kinds)[number]) => {
    const [before, after] = [
      of(both, 0, { counts, swapped }),
      of(both, 1, { counts, swapped }),
    ] as Partial<MetricValues>[];
    return (metric: ComparedMetric) => Math.abs(after![metric]! - before![metric]!);
  };
  const pValues = new Map<ComparedMetric, number>();
  const open = kinds.map((of) => {
    const observed = differences(of);
    const own = metrics.filter((metric) => Number.isFinite(observed(metric)));
    // Sums in another order differ in their last places.
    return { of, tests: new Map(own.map((metric) => [metric, { least: observed(metric) - 1e-12, exceeded: 0 }])) };
  });
  for (let swap = 1; swap <= swaps && open.some(({ tests }) => tests.size > 0); swap++) {
    toss(swapped, random);
    for (const { of, tests } of open) {
      if (tests.size === 0) continue;
      const drawn = differences(of);
      for (const [metric, test] of tests) {
        if (drawn(metric) < test.least) continue;
        test.exceeded++;
        if (test.exceeded < enough) continue;
        pValues.set(metric, enough / swap);
        tests.delete(metric);
      }
    }
  }
  for (const { tests } of open) {
    for (const [metric, { exceeded }] of tests) pValues.set(metric, (exceeded + 1) / (swaps + 1));
  }
  return pValues;
}

/** What figures are computed together. */
const kinds = [rankingValues, probabilityValues] as const;

/** Coins for all places, 32 of each random number. */
function toss(coins: Uint8Array, random: () => number): void {
  for (let first = 0; first < coins.length; first += 32) {
    const bits = Math.floor(random() * 2 ** 32);
    const end = Math.min(first + 32, coins.length);
    for (let i = first; i < end; i++) coins[i] = (bits >>> (i - first)) & 1;
  }
}
