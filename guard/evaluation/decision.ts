import { EvaluationError } from '../errors.ts';
import { type BootstrapOptions, bootstrap, type Interval } from './bootstrap.ts';
import { type Confusion, confusionAt, type Labelled } from './metrics.ts';
import { proportion } from './proportion.ts';

type Ratio = 'precision' | 'recall' | 'f1' | 'accuracy';

/** A sample and the threshold that it is decided by. */
interface Decided extends Labelled {
  readonly threshold: number;
}

/** What `score >= threshold` gets right and wrong: counts, and ratios with their intervals. */
export interface Decision extends Omit<Confusion, Ratio | 'threshold'> {
  /** `null` where samples have several. */
  readonly threshold: number | null;
  /** `null` where nothing was flagged. */
  readonly precision: Interval | null;
  /** `null` without positives. */
  readonly recall: Interval | null;
  /** `null` without positives. */
  readonly f1: Interval | null;
  readonly accuracy: Interval;
  /** `null` without negatives. */
  readonly falsePositiveRate: Interval | null;
}

/**
 * Decides samples by a threshold. Shares of samples have Wilson's interval; F1, which is none, has the bootstrap's.
 * @throws EvaluationError `metric-undefined` of no samples
 */
export function decisionAt(samples: readonly Labelled[], threshold: number, options: BootstrapOptions = {}): Decision {
  const counts = confusionAt(samples, threshold);
  const { truePositives, falsePositives, trueNegatives, falseNegatives } = counts;
  const share = (part: number, rest: number) => proportion(part, part + rest, options.confidence);
  const recall = share(truePositives, falseNegatives);
  const accuracy = share(truePositives + trueNegatives, falsePositives + falseNegatives);
  if (accuracy === null) throw new EvaluationError('metric-undefined', 'Nothing is decided of no samples: give some.');
  return {
    ...counts,
    precision: share(truePositives, falsePositives),
    recall,
    f1: recall && bootstrap(samples, (drawn) => confusionAt(drawn, threshold).f1, options),
    accuracy,
    falsePositiveRate: share(falsePositives, trueNegatives),
  };
}

/** Decides each sample by its own threshold. @throws EvaluationError `metric-undefined` of no samples */
export function decisionOf(samples: readonly Decided[], options: BootstrapOptions = {}): Decision {
  const [threshold, ...others] = new Set(samples.map((sample) => sample.threshold));
  if (others.length === 0) return decisionAt(samples, threshold!, options);
  const flagged = samples.map(({ score, label, threshold }) => ({ score: score >= threshold ? 1 : 0, label }));
  return { ...decisionAt(flagged, 1, options), threshold: null };
}
