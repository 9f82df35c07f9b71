import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EvaluationError } from '../guard/errors.ts';
import {
  areaUnderRoc,
  averagePrecision,
  bestF1,
  brier,
  confusionAt,
  expectedCalibrationError,
  known,
  type Labelled,
  logLoss,
  precisionRecallCurve,
  reliability,
  rocCurve,
  thresholdFor,
  truePositiveRateAt,
} from '../guard/evaluation/metrics.ts';

interface OracleCase {
  readonly name: string;
  readonly scores: readonly number[];
  readonly labels: readonly (number | null)[];
  /** By scikit-learn's names; curves by falling threshold, without the point where nothing is flagged. */
  readonly expected: {
    readonly average_precision_score: number | null;
    readonly roc_auc_score: number | null;
    readonly brier_score_loss: number | null;
    readonly log_loss: number | null;
    readonly expected_calibration_error: number | null;
    readonly precision_recall_curve: readonly (readonly [threshold: number, precision: number, recall: number])[];
    readonly roc_curve: readonly (readonly [threshold: number, falseRate: number, trueRate: number])[];
    readonly confusion: readonly {
      readonly threshold: number;
      readonly counts: readonly [tp: number, fp: number, tn: number, fn: number];
      readonly precision_score: number;
      readonly recall_score: number;
      readonly f1_score: number;
      readonly accuracy_score: number | null;
    }[];
  };
}

const oracle: { readonly by: string; readonly cases: readonly OracleCase[] } = JSON.parse(
  readFileSync(new URL('oracles/metrics.json', import.meta.url), 'utf8'),
);

const tolerance = 1e-12;
const expectNear = (found: number | null, wanted: number | null) => {
  if (wanted === null) expect(found).toBeNull();
  else expect(Math.abs(found! - wanted)).toBeLessThanOrEqual(tolerance);
};
const expectRows = (found: readonly (readonly number[])[], wanted: readonly (readonly number[])[]) => {
  expect(found.length).toBe(wanted.length);
  for (const [i, row] of wanted.entries()) for (const [j, value] of row.entries()) expectNear(found[i]![j]!, value);
};

describe(`metrics agree with ${oracle.by}`, () => {
  it('on inputs of every kind', () => {
    const names = oracle.cases.map(({ name }) => name).join();
    for (const kind of ['random', 'tied', 'all positive', 'all negative', 'one positive', 'unknown']) {
      expect(names).toContain(kind);
    }
  });

  it.each(oracle.cases)('$name', ({ scores, labels, expected }) => {
    const samples = known(scores, labels);
    expectNear(averagePrecision(samples), expected.average_precision_score);
    expectNear(areaUnderRoc(samples), expected.roc_auc_score);
    expectNear(brier(samples), expected.brier_score_loss);
    expectNear(logLoss(samples), expected.log_loss);
    expectNear(expectedCalibrationError(samples), expected.expected_calibration_error);
    expectRows(
      precisionRecallCurve(samples)
        .slice(1)
        .map(({ threshold, precision, recall }) => [threshold, precision, recall]),
      expected.precision_recall_curve,
    );
    expectRows(
      rocCurve(samples)
        .slice(1)
        .map(({ threshold, falsePositiveRate, truePositiveRate }) => [threshold, falsePositiveRate, truePositiveRate]),
      expected.roc_curve,
    );
    for (const { threshold, counts, ...scores } of expected.confusion) {
      const found = confusionAt(samples, threshold);
      const { truePositives, falsePositives, trueNegatives, falseNegatives } = found;
      expect([truePositives, falsePositives, trueNegatives, falseNegatives]).toEqual(counts);
      expectNear(found.precision, scores.precision_score);
      expectNear(found.recall, scores.recall_score);
      expectNear(found.f1, scores.f1_score);
      expectNear(found.accuracy, scores.accuracy_score);
    }
  });
});

const label = fc.constantFrom<0 | 1>(0, 1);
/** Scores of few levels tie often. */
const score = fc.oneof(
  fc.double({ min: 0, max: 1, noNaN: true }),
  fc.integer({ min: 0, max: 6 }).map((level) => level / 6),
);
const samplesOf = fc.array(fc.record({ score, label }), { minLength: 1, maxLength: 60 });
const bothClasses = samplesOf.map((samples): Labelled[] => [
  ...samples,
  { score: 0.5, label: 0 },
  { score: 0.5, label: 1 },
]);

describe('metrics', () => {
  it('of rankings do not depend on the order of samples, nor on a rising map of the scores', () => {
    fc.assert(
      fc.property(bothClasses, (samples) => {
        // Rounding must not make ties: ranks are exact.
        const ranks = [...new Set(samples.map((sample) => sample.score))].sort((a, b) => a - b);
        const mapped = samples.toReversed().map((sample) => ({ ...sample, score: ranks.indexOf(sample.score) ** 3 }));
        expectNear(averagePrecision(mapped), averagePrecision(samples));
        expectNear(areaUnderRoc(mapped), areaUnderRoc(samples));
        expect(bestF1(mapped)!.f1).toBe(bestF1(samples)!.f1);
      }),
    );
  });

  it('AUROC is the share of pairs in the right order, ties half', () => {
    fc.assert(
      fc.property(bothClasses, (samples) => {
        const [positives, negatives] = [1, 0].map((wanted) => samples.filter((sample) => sample.label === wanted));
        const wins = positives!.flatMap((p) => negatives!.map((n) => (1 + Math.sign(p.score - n.score)) / 2));
        expectNear(areaUnderRoc(samples), wins.reduce((a, b) => a + b, 0) / wins.length);
      }),
    );
  });

  it('curves are what the confusion at each of their thresholds says', () => {
    fc.assert(
      fc.property(bothClasses, (samples) => {
        for (const { threshold, precision, recall } of precisionRecallCurve(samples).slice(1)) {
          expect(confusionAt(samples, threshold)).toMatchObject({ precision, recall });
        }
        for (const { threshold, falsePositiveRate, truePositiveRate } of rocCurve(samples)) {
          const { falsePositives, trueNegatives, recall } = confusionAt(samples, threshold);
          expect(falsePositiveRate).toBe(falsePositives / (falsePositives + trueNegatives));
          expect(truePositiveRate).toBe(recall);
        }
      }),
    );
  });

  it('bins hold every sample once, and a perfect forecast has no error', () => {
    fc.assert(
      fc.property(samplesOf, fc.integer({ min: 1, max: 30 }), (samples, bins) => {
        const bars = reliability(samples, bins);
        expect(bars.reduce((sum, { count }) => sum + count, 0)).toBe(samples.length);
        for (const { low, high, count, meanScore } of bars) {
          if (count === 0) expect(meanScore).toBeNull();
          else expect(meanScore! > low - tolerance && meanScore! <= high + tolerance).toBe(true);
        }
        const perfect = samples.map((sample) => ({ ...sample, score: sample.label }));
        expect(expectedCalibrationError(perfect, bins)).toBe(0);
        expect(brier(perfect)).toBe(0);
      }),
    );
  });

  it('a score on the edge of bins belongs to the lower one', () => {
    const bars = reliability([0, 0.2, 0.6, 1].map((score) => ({ score, label: 1 })));
    expect(bars.flatMap(({ count }, i) => (count > 0 ? [i] : []))).toEqual([0, 2, 8, 14]);
  });

  it('of no samples, or of one class alone, are what the docstrings say', () => {
    const positive: Labelled[] = [{ score: 0.7, label: 1 }];
    const negative: Labelled[] = [{ score: 0.7, label: 0 }];
    for (const metric of [averagePrecision, areaUnderRoc, brier, logLoss, expectedCalibrationError, bestF1]) {
      expect(metric([])).toBeNull();
    }
    expect(confusionAt([], 0.5)).toMatchObject({ precision: 0, recall: 0, f1: 0, accuracy: null });
    expect(averagePrecision(negative)).toBe(0);
    expect(averagePrecision(positive)).toBe(1);
    for (const alone of [positive, negative]) {
      expect(areaUnderRoc(alone)).toBeNull();
      expect(rocCurve(alone)).toEqual([]);
      expect(truePositiveRateAt(alone, 0.01)).toBeNull();
    }
    expect(bestF1(negative)).toBeNull();
    expect(thresholdFor(negative, 'f1')).toBeNull();
    expect(thresholdFor(negative, { recall: 0.9 })).toBeNull();
    expect(thresholdFor(positive, { fpr: 0.1 })).toBeNull();
  });
});

describe('thresholds chosen on data', () => {
  it('keep what they promise, and none of the other scores does it better', () => {
    const share = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(bothClasses, share, (samples, wanted) => {
        const points = rocCurve(samples).slice(1);
        const at = (threshold: number) => points.find((point) => point.threshold === threshold)!;

        const byRecall = thresholdFor(samples, { recall: wanted })!;
        expect(at(byRecall).truePositiveRate).toBeGreaterThanOrEqual(wanted);
        for (const point of points) {
          if (point.threshold > byRecall) expect(point.truePositiveRate).toBeLessThan(wanted);
        }

        const best = truePositiveRateAt(samples, wanted)!;
        const byRate = thresholdFor(samples, { fpr: wanted });
        if (byRate === null) expect(best).toBe(0);
        else {
          expect(at(byRate).falsePositiveRate).toBeLessThanOrEqual(wanted);
          expect(at(byRate).truePositiveRate).toBe(best);
        }
        for (const point of points) {
          if (point.falsePositiveRate <= wanted) expect(point.truePositiveRate).toBeLessThanOrEqual(best);
        }

        const byF1 = thresholdFor(samples, 'f1')!;
        for (const { threshold } of points) {
          expect(confusionAt(samples, threshold).f1).toBeLessThanOrEqual(confusionAt(samples, byF1).f1);
        }
      }),
    );
  });

  it('are the highest of equals, and none where negatives score highest', () => {
    const samples = known([0.9, 0.8, 0.7, 0.2], [1, 1, 0, 0]);
    expect(thresholdFor(samples, { fpr: 0.4 })).toBe(0.8);
    expect(thresholdFor(samples, { recall: 0.5 })).toBe(0.9);
    expect(thresholdFor(samples, 'f1')).toBe(0.8);
    expect(thresholdFor(known([0.9, 0.8], [0, 1]), { fpr: 0.01 })).toBeNull();
    expect(truePositiveRateAt(known([0.9, 0.8], [0, 1]), 0.01)).toBe(0);
  });
});

describe('known', () => {
  it('leaves out what has no label, and takes it for nothing else', () => {
    const samples = known([0.1, 0.2, 0.3, Number.NaN, 0.5], [1, null, undefined, Number.NaN, 0]);
    expect(samples).toEqual([
      { score: 0.1, label: 1 },
      { score: 0.5, label: 0 },
    ]);
  });

  it.each([
    ['a label beyond 0 and 1', [0.1, 0.2], [0, 2], 'label-invalid', 'labels[1]'],
    ['a label in between', [0.1], [0.5], 'label-invalid', 'but is 0.5'],
    ['a score that is no number', [0.1, Number.NaN], [0, 1], 'score-invalid', 'scores[1]'],
    ['an infinite score', [Number.POSITIVE_INFINITY], [1], 'score-invalid', 'Infinity'],
    ['a score too few', [0.1], [0, 1], 'score-invalid', '2 and 1 came'],
  ] as const)('refuses %s', (_, scores, labels, code, message) => {
    const refusal = expect(() => known(scores, labels));
    refusal.toThrow(EvaluationError);
    refusal.toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });

  it('probabilities beyond 0 and 1 are refused where they are taken for such', () => {
    for (const metric of [brier, logLoss, expectedCalibrationError]) {
      expect(() => metric([{ score: 1.5, label: 1 }])).toThrow('A probability lies between 0 and 1, but is 1.5.');
    }
  });
});
