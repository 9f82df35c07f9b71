import { EvaluationError } from '../errors.ts';

/** A score and the truth that it is held against; 1 is the positive class: unsafe, or of the category. */
export interface Labelled {
  readonly score: number;
  readonly label: 0 | 1;
}

/** Precision and recall of `score >= threshold`. */
export interface PrecisionRecallPoint {
  readonly threshold: number;
  readonly precision: number;
  readonly recall: number;
}

/** The rates of `score >= threshold`. */
export interface RocPoint {
  readonly threshold: number;
  readonly falsePositiveRate: number;
  readonly truePositiveRate: number;
}

/** What `score >= threshold` gets right and wrong. A ratio that divides by zero is 0, as in scikit-learn. */
export interface Confusion {
  readonly threshold: number;
  readonly truePositives: number;
  readonly falsePositives: number;
  readonly trueNegatives: number;
  readonly falseNegatives: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  /** `null` of no samples. */
  readonly accuracy: number | null;
}

/** What chooses a threshold: the best recall within a false positive rate, a recall to be reached, or the best F1. */
export type ThresholdRule = { readonly fpr: number } | { readonly recall: number } | 'f1';

/** A bar of the reliability diagram: the samples whose score lies in `(low, high]`; 0 belongs to the first. */
export interface ReliabilityBin {
  readonly low: number;
  readonly high: number;
  readonly count: number;
  /** Means over the samples of the bin; `null` where it has none. */
  readonly meanScore: number | null;
  readonly positiveRate: number | null;
}

/**
 * Pairs scores with labels and leaves out what has none: `null`, `undefined` or NaN is unknown, and never zero.
 *
 * @param scores as many as labels, of equal order
 * @throws EvaluationError `label-invalid` for a label that is neither 0, 1 nor unknown, `score-invalid` for a score of
 *   a known label that is no finite number, or where there are more of one than of the other
 */
export function known(scores: readonly number[], labels: readonly (number | null | undefined)[]): Labelled[] {
  if (scores.length !== labels.length) {
    throw new EvaluationError('score-invalid', `Each label needs a score: ${labels.length} and ${scores.length} came.`);
  }
  return labels.flatMap((label, i): Labelled[] => {
    if (label === null || label === undefined || Number.isNaN(label)) return [];
    if (label !== 0 && label !== 1) {
      throw new EvaluationError(
        'label-invalid',
        `labels[${i}]: a label is 0 or 1, or null where it is unknown, but is ${label}.`,
      );
    }
    const score = scores[i]!;
    if (!Number.isFinite(score)) {
      throw new EvaluationError('score-invalid', `scores[${i}]: a score is a finite number, but is ${score}.`);
    }
    return [{ score, label }];
  });
}

/** Samples flagged at a threshold, counted by their label. */
interface Step {
  readonly threshold: number;
  readonly truePositives: number;
  readonly falsePositives: number;
}

/** The steps that the counts take as the threshold falls from score to score; equal scores are one step. */
function steps(samples: readonly Labelled[]): Step[] {
  const sorted = [...samples].sort((a, b) => b.score - a.score);
  const steps: Step[] = [];
  let truePositives = 0;
  let falsePositives = 0;
  for (const [i, { score, label }] of sorted.entries()) {
    if (label === 1) truePositives++;
    else falsePositives++;
    if (sorted[i + 1]?.score !== score) steps.push({ threshold: score, truePositives, falsePositives });
  }
  return steps;
}

/**
 * Precision and recall by falling threshold, one point for each score that occurs, as scikit-learn's
 * `precision_recall_curve` has them: it begins where nothing is flagged (threshold infinity, precision 1, recall 0),
 * and without positives recall is 1 from the first score on. Of no samples there are no points.
 */
export function precisionRecallCurve(samples: readonly Labelled[]): PrecisionRecallPoint[] {
  if (samples.length === 0) return [];
  const { positives } = countClasses(samples);
  return [
    { threshold: Number.POSITIVE_INFINITY, precision: 1, recall: 0 },
    ...steps(samples).map(({ threshold, truePositives, falsePositives }) => ({
      threshold,
      precision: truePositives / (truePositives + falsePositives),
      recall: positives === 0 ? 1 : truePositives / positives,
    })),
  ];
}

/**
 * The area under the precision-recall curve, AUPRC, as scikit-learn's `average_precision_score`: the sum of
 * `(R_n - R_(n-1)) P_n` over the thresholds, equal scores together and nothing interpolated.
 *
 * @returns 0 without positives, as there; `null` of no samples
 */
export function averagePrecision(samples: readonly Labelled[]): number | null {
  if (samples.length === 0) return null;
  const curve = precisionRecallCurve(samples);
  return sum(curve.slice(1), ({ precision, recall }, i) => (recall - curve[i]!.recall) * precision);
}

/**
 * The rates by falling threshold, one point for each score that occurs, as scikit-learn's `roc_curve` without
 * `drop_intermediate`; it begins where nothing is flagged (threshold infinity). Without positives or without negatives
 * a rate has no meaning, and there are no points.
 */
export function rocCurve(samples: readonly Labelled[]): RocPoint[] {
  const { positives, negatives } = countClasses(samples);
  if (positives === 0 || negatives === 0) return [];
  return [
    { threshold: Number.POSITIVE_INFINITY, falsePositiveRate: 0, truePositiveRate: 0 },
    ...steps(samples).map(({ threshold, truePositives, falsePositives }) => ({
      threshold,
      falsePositiveRate: falsePositives / negatives,
      truePositiveRate: truePositives / positives,
    })),
  ];
}

/**
 * The area under the ROC curve, AUROC: how often a positive scores above a negative, ties counting half.
 *
 * @returns `null` without positives or without negatives, where scikit-learn's `roc_auc_score` refuses
 */
export function areaUnderRoc(samples: readonly Labelled[]): number | null {
  const curve = rocCurve(samples);
  if (curve.length === 0) return null;
  return sum(curve.slice(1), ({ falsePositiveRate, truePositiveRate }, i) => {
    const before = curve[i]!;
    return ((falsePositiveRate - before.falsePositiveRate) * (truePositiveRate + before.truePositiveRate)) / 2;
  });
}

/** Counts and ratios of flagging what scores `threshold` or more. */
export function confusionAt(samples: readonly Labelled[], threshold: number): Confusion {
  const flagged = samples.filter(({ score }) => score >= threshold);
  const { positives, negatives } = countClasses(samples);
  const { positives: truePositives, negatives: falsePositives } = countClasses(flagged);
  return confusionOf({ threshold, truePositives, falsePositives }, positives, negatives);
}

/**
 * The threshold, out of the scores that occur, with the largest F1; of several the highest.
 *
 * @returns `null` without positives, since F1 is 0 everywhere
 */
export function bestF1(samples: readonly Labelled[]): Confusion | null {
  const { positives, negatives } = countClasses(samples);
  if (positives === 0) return null;
  return steps(samples)
    .map((step) => confusionOf(step, positives, negatives))
    .reduce((best, other) => (other.f1 > best.f1 ? other : best));
}

/**
 * The largest true positive rate that leaves the false positive rate within its limit.
 *
 * @returns 0 where a negative scores highest and is already too many; `null` without positives or without negatives
 */
export function truePositiveRateAt(samples: readonly Labelled[], falsePositiveRate: number): number | null {
  return withinFalsePositives(samples, falsePositiveRate)?.truePositiveRate ?? null;
}

/**
 * The threshold, out of the scores that occur, that a rule asks for. `fpr`: with the largest recall within the false
 * positive rate; `recall`: the highest that reaches the recall; `f1`: with the largest F1. Of several the highest, so
 * that nothing is flagged in vain.
 *
 * @returns `null` where the samples lack the class that the rule is about, or none of their scores keeps within the
 *   limit
 */
export function thresholdFor(samples: readonly Labelled[], rule: ThresholdRule): number | null {
  if (rule === 'f1') return bestF1(samples)?.threshold ?? null;
  if ('fpr' in rule) {
    const point = withinFalsePositives(samples, rule.fpr);
    return point && point.truePositiveRate > 0 ? point.threshold : null;
  }
  if (countClasses(samples).positives === 0) return null;
  return precisionRecallCurve(samples)
    .slice(1)
    .find(({ recall }) => recall >= rule.recall)!.threshold;
}

/** The samples by their score in bins of equal width over [0, 1]: what a reliability diagram shows. */
export function reliability(samples: readonly Labelled[], bins = 15): ReliabilityBin[] {
  const edges = Array.from({ length: bins + 1 }, (_, i) => i / bins);
  const members: Labelled[][] = Array.from({ length: bins }, () => []);
  for (const sample of samples) {
    const { score } = sample;
    assertProbability(score);
    members[Math.max(0, edges.findIndex((edge) => score <= edge) - 1)]!.push(sample);
  }
  return members.map((own, i) => ({
    low: edges[i]!,
    high: edges[i + 1]!,
    count: own.length,
    meanScore: mean(own, ({ score }) => score),
    positiveRate: mean(own, ({ label }) => label),
  }));
}

/**
 * Expected calibration error of the probability of the positive class (Naeini et al. 2015; Guo et al. 2017, 15 bins):
 * the mean distance between a bin's mean score and its share of positives, weighted by the bin's samples.
 *
 * @returns `null` of no samples
 */
export function expectedCalibrationError(samples: readonly Labelled[], bins = 15): number | null {
  if (samples.length === 0) return null;
  return sum(reliability(samples, bins), ({ count, meanScore, positiveRate }) =>
    count === 0 ? 0 : (count / samples.length) * Math.abs(meanScore! - positiveRate!),
  );
}

/** The mean squared distance of the probability from the label (Brier 1950). @returns `null` of no samples */
export function brier(samples: readonly Labelled[]): number | null {
  return mean(samples, ({ score, label }) => (assertProbability(score) - label) ** 2);
}

/**
 * The mean negative log-likelihood in nats. Probabilities are kept 2^-52 away from 0 and 1, as scikit-learn does, so
 * that one that was sure and wrong costs 36 nats and not infinitely many.
 *
 * @returns `null` of no samples
 */
export function logLoss(samples: readonly Labelled[]): number | null {
  return mean(samples, ({ score, label }) => {
    const probability = Math.min(Math.max(assertProbability(score), Number.EPSILON), 1 - Number.EPSILON);
    return -Math.log(label === 1 ? probability : 1 - probability);
  });
}

/** How many samples are positive, and how many are not. */
export function countClasses(samples: readonly Labelled[]): { readonly positives: number; readonly negatives: number } {
  const positives = sum(samples, ({ label }) => label);
  return { positives, negatives: samples.length - positives };
}

/** The point with the largest recall, and of several the highest threshold, within a false positive rate. */
function withinFalsePositives(samples: readonly Labelled[], limit: number): RocPoint | undefined {
  const within = rocCurve(samples).filter(({ falsePositiveRate }) => falsePositiveRate <= limit);
  return within.find(({ truePositiveRate }) => truePositiveRate === within.at(-1)!.truePositiveRate);
}

function confusionOf(
  { threshold, truePositives, falsePositives }: Step,
  positives: number,
  negatives: number,
): Confusion {
  const falseNegatives = positives - truePositives;
  const trueNegatives = negatives - falsePositives;
  const total = positives + negatives;
  return {
    threshold,
    truePositives,
    falsePositives,
    trueNegatives,
    falseNegatives,
    precision: ratio(truePositives, truePositives + falsePositives),
    recall: ratio(truePositives, positives),
    f1: ratio(2 * truePositives, 2 * truePositives + falsePositives + falseNegatives),
    accuracy: total === 0 ? null : (truePositives + trueNegatives) / total,
  };
}

const ratio = (part: number, whole: number): number => (whole === 0 ? 0 : part / whole);

const sum = <T>(items: readonly T[], of: (item: T, index: number) => number): number =>
  items.reduce((total, item, i) => total + of(item, i), 0);

const mean = <T>(items: readonly T[], of: (item: T) => number): number | null =>
  items.length === 0 ? null : sum(items, of) / items.length;

function assertProbability(score: number): number {
  if (score >= 0 && score <= 1) return score;
  throw new EvaluationError('score-invalid', `A probability lies between 0 and 1, but is ${score}.`);
}
