import { seededRandom } from '../../kernels/random.ts';
import { EvaluationError } from '../errors.ts';
import { packageVersion } from '../version.ts';
import type { Labelled } from './metrics.ts';

/** A figure of samples; `null` where they do not define it. */
export type Metric<S extends Labelled = Labelled> = (samples: readonly S[]) => number | null;

export interface Interval {
  /** The metric of the samples as they are; it need not lie in the middle. */
  readonly estimate: number;
  readonly lower: number;
  readonly upper: number;
}

export interface BootstrapOptions {
  /** 1,000 by default. */
  readonly resamples?: number;
  /** The share of resamples within the interval; 0.95 by default. */
  readonly confidence?: number;
  /** Equal seeds give equal intervals; 1 by default. */
  readonly seed?: number;
}

/** What intervals came about by: with the same, and the same samples, they come about again. */
export interface Settings extends Required<BootstrapOptions> {
  /** Of this package. */
  readonly version: string;
}

export const settingsOf = ({ resamples = 1000, confidence = 0.95, seed = 1 }: BootstrapOptions = {}): Settings => ({
  resamples,
  confidence,
  seed,
  version: packageVersion,
});

/**
 * A metric with its percentile interval (Efron 1979): the metric's quantiles over resamples of as many samples, drawn
 * with replacement. A resample that lost a class which the samples have, positives of a rare category, say, is drawn
 * again: what a metric is without it would only tell how often that happens.
 *
 * @throws EvaluationError `metric-undefined` where the metric is `null` of the samples themselves
 */
export const bootstrap = <S extends Labelled>(
  samples: readonly S[],
  metric: Metric<S>,
  options: BootstrapOptions = {},
): Interval => bootstrapEach(samples, (drawn) => ({ metric: metric(drawn) }), options).metric;

/**
 * Several metrics, by their names, over the same resamples: what `bootstrap` says of each, for one drawing of resamples
 * and one look at each.
 *
 * @throws EvaluationError `metric-undefined` where one is `null` of the samples themselves
 */
export function bootstrapEach<S extends Labelled, Name extends string>(
  samples: readonly S[],
  metrics: (samples: readonly S[]) => Readonly<Record<Name, number | null>>,
  options: BootstrapOptions = {},
): Record<Name, Interval> {
  const estimates = metrics(samples);
  const names = Object.keys(estimates) as Name[];
  // Resamples come in this order, so that a metric that sorts by score finds its work done.
  const byScore = samples.map((_, i) => i).sort((a, b) => samples[b]!.score - samples[a]!.score);
  const figures = Array.from(resamplesOf(samples, options), (counts) => metrics(drawnBy(counts, samples, byScore)));
  const withIntervals = names.map((name) => {
    const values = figures.map((of) => defined(of[name]));
    return [name, { estimate: defined(estimates[name]), ...percentileInterval(values, options) }];
  });
  return Object.fromEntries(withIntervals) as Record<Name, Interval>;
}

/**
 * Resamples: of each how often every sample is in it, in the order of the samples. They depend on the labels and the seed
 * and on no score, so that what several systems say of the same samples is resampled alike. Each has every class that the
 * samples have.
 */
export function* resamplesOf(
  samples: readonly Pick<Labelled, 'label'>[],
  options: BootstrapOptions,
): Generator<Uint16Array, void, void> {
  const { resamples, seed } = settingsOf(options);
  const random = seededRandom(seed);
  const classes = ([0, 1] as const).filter((wanted) => samples.some(({ label }) => label === wanted));
  for (let left = resamples; left > 0; ) {
    const counts = new Uint16Array(samples.length);
    for (let i = 0; i < counts.length; i++) counts[Math.floor(random() * counts.length)]!++;
    const whole = classes.every((wanted) => samples.some(({ label }, i) => label === wanted && counts[i]! > 0));
    if (!whole) continue;
    left--;
    yield counts;
  }
}

/** The samples as often as a resample has them, in an order of their places. */
function drawnBy<S>(counts: Uint16Array, samples: readonly S[], order: readonly number[]): S[] {
  const drawn: S[] = [];
  for (const place of order) {
    for (let left = counts[place]!; left > 0; left--) drawn.push(samples[place]!);
  }
  return drawn;
}

/** The bounds that leave out an equal share of the values on either side (Efron 1979). */
export function percentileInterval(values: readonly number[], options: BootstrapOptions): Omit<Interval, 'estimate'> {
  const { confidence } = settingsOf(options);
  const sorted = values.toSorted((a, b) => a - b);
  return { lower: quantile(sorted, (1 - confidence) / 2), upper: quantile(sorted, (1 + confidence) / 2) };
}

/**
 * The value below which a share of the sorted values lies, interpolated between neighbours (Hyndman and Fan's type 7).
 */
function quantile(sorted: readonly number[], share: number): number {
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!];
  return low + (place - Math.floor(place)) * (high - low);
}

function defined(figure: number | null): number {
  if (figure !== null) return figure;
  throw new EvaluationError(
    'metric-undefined',
    'The samples do not define this metric: some of each label are needed.',
  );
}
