import { seededRandom } from '../../kernels/random.ts';
import { EvaluationError } from '../errors.ts';
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
  // Resamples keep this order, so that a metric that sorts by score finds its work done.
  const sorted = samples.toSorted((a, b) => b.score - a.score);
  const intervals = percentiles(
    sorted,
    (places) => {
      const figures = metrics(places.map((i) => sorted[i]!));
      return names.map((name) => defined(figures[name]));
    },
    options,
  );
  const withEstimates = names.map((name, i) => [name, { estimate: defined(estimates[name]), ...intervals[i]! }]);
  return Object.fromEntries(withEstimates) as Record<Name, Interval>;
}

/**
 * The difference of a metric between two runs, `after - before`, with the percentile interval over resamples that are
 * the same of both: what makes a sample hard is hard for both, and so drops out of the difference.
 *
 * @param after the same samples in the same order, with other scores
 * @param metric or one of either run, where it depends on the run, as F1 does on its threshold
 * @throws EvaluationError `metric-undefined`, as `bootstrap`; `label-invalid` where the labels of the two differ
 */
export function pairedBootstrap<S extends Labelled>(
  before: readonly S[],
  after: readonly S[],
  metric: Metric<S> | readonly [before: Metric<S>, after: Metric<S>],
  options: BootstrapOptions = {},
): Interval {
  const [ofBefore, ofAfter] = typeof metric === 'function' ? [metric, metric] : metric;
  if (before.length !== after.length || before.some(({ label }, i) => label !== after[i]!.label)) {
    throw new EvaluationError(
      'label-invalid',
      'A paired bootstrap needs the same samples with the same labels in the same order on both sides.',
    );
  }
  const difference = (draw: (samples: readonly S[]) => readonly S[]) =>
    defined(ofAfter(draw(after))) - defined(ofBefore(draw(before)));
  return {
    estimate: difference((samples) => samples),
    ...percentiles(before, (places) => [difference((samples) => places.map((i) => samples[i]!))], options)[0]!,
  };
}

/** The interval of each of the figures that every resample is asked for. */
function percentiles(
  samples: readonly Labelled[],
  figures: (places: readonly number[]) => readonly number[],
  { resamples = 1000, confidence = 0.95, seed = 1 }: BootstrapOptions,
): Omit<Interval, 'estimate'>[] {
  const random = seededRandom(seed);
  const drawn = Array.from({ length: resamples }, () => figures(resampled(samples, random)));
  return drawn[0]!.map((_, i) => {
    const sorted = drawn.map((of) => of[i]!).sort((a, b) => a - b);
    return { lower: quantile(sorted, (1 - confidence) / 2), upper: quantile(sorted, (1 + confidence) / 2) };
  });
}

/**
 * Places drawn with replacement, in rising order, as many as there are samples and with every class that these have.
 */
function resampled(samples: readonly Labelled[], random: () => number): number[] {
  const size = samples.length;
  const labels = ([0, 1] as const).filter((wanted) => samples.some(({ label }) => label === wanted));
  for (;;) {
    const counts = new Uint32Array(size);
    for (let i = 0; i < size; i++) counts[Math.floor(random() * size)]!++;
    const places: number[] = [];
    for (let place = 0; place < size; place++) {
      for (let left = counts[place]!; left > 0; left--) places.push(place);
    }
    if (labels.every((wanted) => places.some((place) => samples[place]!.label === wanted))) return places;
  }
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
