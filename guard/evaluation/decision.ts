import { type BootstrapOptions, bootstrapEach, type Interval } from './bootstrap.ts';
import { type Confusion, confusionAt, countClasses, type Labelled } from './metrics.ts';

type Ratio = 'precision' | 'recall' | 'f1' | 'accuracy';

/** What `score >= threshold` gets right and wrong: counts, and ratios with their intervals. */
export interface Decision extends Omit<Confusion, Ratio>, Readonly<Record<Ratio, Interval>> {
  /** `null` without negatives. */
  readonly falsePositiveRate: Interval | null;
}

/** @throws EvaluationError `metric-undefined` of no samples */
export function decisionAt(samples: readonly Labelled[], threshold: number, options: BootstrapOptions = {}): Decision {
  const ratios = bootstrapEach(
    samples,
    (drawn) => {
      const { precision, recall, f1, accuracy, falsePositives, trueNegatives } = confusionAt(drawn, threshold);
      const negatives = falsePositives + trueNegatives;
      const falsePositiveRate = negatives === 0 ? 0 : falsePositives / negatives;
      return { precision, recall, f1, accuracy, falsePositiveRate };
    },
    options,
  );
  const counts = confusionAt(samples, threshold);
  return { ...counts, ...ratios, ...(countClasses(samples).negatives === 0 ? { falsePositiveRate: null } : {}) };
}
