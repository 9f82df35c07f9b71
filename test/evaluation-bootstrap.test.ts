import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EvaluationError } from '../guard/errors.ts';
import { bootstrap, bootstrapEach } from '../guard/evaluation/bootstrap.ts';
import { decisionAt } from '../guard/evaluation/decision.ts';
import {
  areaUnderRoc,
  averagePrecision,
  confusionAt,
  countClasses,
  type Labelled,
} from '../guard/evaluation/metrics.ts';
import { proportion } from '../guard/evaluation/proportion.ts';
import { seededRandom, standardNormal } from '../kernels/random.ts';

/** Scores that know something of their labels; the noise is drawn from `random`. */
const drawn = (count: number, random: () => number, positives = 0.3): Labelled[] =>
  Array.from({ length: count }, () => {
    const label = random() < positives ? 1 : 0;
    return { label, score: label + standardNormal(random) };
  });

const positiveRate = (samples: readonly Labelled[]) => countClasses(samples).positives / samples.length;

describe('bootstrap', () => {
  const samples = drawn(150, seededRandom(1));

  it('is the same by the same seed, and another by another', () => {
    const first = bootstrap(samples, averagePrecision, { seed: 7 });
    expect(bootstrap(samples, averagePrecision, { seed: 7 })).toEqual(first);
    expect(bootstrap(samples.toReversed(), averagePrecision, { seed: 7 }).estimate).toBe(first.estimate);
    expect(bootstrap(samples, averagePrecision, { seed: 8 })).not.toEqual(first);
  });

  it('holds the estimate, and is wider the surer it must be', () => {
    const narrow = bootstrap(samples, areaUnderRoc, { confidence: 0.5 });
    const wide = bootstrap(samples, areaUnderRoc, { confidence: 0.99 });
    expect(narrow.estimate).toBe(areaUnderRoc(samples));
    expect(wide.lower).toBeLessThan(narrow.lower);
    expect(narrow.lower).toBeLessThan(narrow.estimate);
    expect(narrow.estimate).toBeLessThan(narrow.upper);
    expect(narrow.upper).toBeLessThan(wide.upper);
  });

  it('holds the truth about as often as it says', () => {
    const random = seededRandom(2);
    const trials = 300;
    let held = 0;
    for (let trial = 0; trial < trials; trial++) {
      const { lower, upper } = bootstrap(drawn(100, random), positiveRate, { resamples: 200, seed: trial });
      if (lower <= 0.3 && 0.3 <= upper) held++;
    }
    // 0.95 with three standard deviations of a share of 300 trials, and what the percentile interval is known to lack.
    expect(held / trials).toBeGreaterThan(0.89);
    expect(held / trials).toBeLessThan(0.99);
  });

  it('never loses the only positive', () => {
    const lone = drawn(40, seededRandom(3), 0).concat({ score: 9, label: 1 });
    const seen = bootstrap(lone, (resample) => countClasses(resample).positives, { resamples: 200 });
    expect(seen.lower).toBeGreaterThanOrEqual(1);
    expect(bootstrap(lone, averagePrecision)).toEqual({ estimate: 1, lower: 1, upper: 1 });
  });

  it('of several metrics is that of each', () => {
    const options = { resamples: 60, seed: 3 };
    const both = bootstrapEach(samples, (one) => ({ auprc: averagePrecision(one), auroc: areaUnderRoc(one) }), options);
    expect(both).toEqual({
      auprc: bootstrap(samples, averagePrecision, options),
      auroc: bootstrap(samples, areaUnderRoc, options),
    });
  });

  it('tells how sure the ratios of a threshold are', () => {
    const options = { resamples: 60 };
    const { threshold, truePositives, precision, recall, falsePositiveRate } = decisionAt(samples, 0.5, options);
    const counts = confusionAt(samples, 0.5);
    expect({ threshold, truePositives }).toEqual({ threshold: 0.5, truePositives: counts.truePositives });
    expect(recall!.estimate).toBe(counts.recall);
    expect(precision!.estimate).toBe(counts.precision);
    expect(precision!.lower).toBeLessThan(counts.precision);
    expect(falsePositiveRate!.estimate).toBe(counts.falsePositives / countClasses(samples).negatives);
    expect(decisionAt(samples, 0.5, options).f1).toEqual(
      bootstrap(samples, (one) => confusionAt(one, 0.5).f1, options),
    );
  });

  it('leaves out the ratios that samples do not define', () => {
    const at = (threshold: number, ...labels: (0 | 1)[]) =>
      decisionAt(
        labels.map((label) => ({ score: 0.5, label })),
        threshold,
        { resamples: 10 },
      );
    const zero = { estimate: 0, lower: 0 };
    expect(at(0.5, 1)).toMatchObject({ falsePositiveRate: null, recall: { estimate: 1, upper: 1 } });
    expect(at(0.5, 0)).toMatchObject({ recall: null, f1: null, precision: zero, falsePositiveRate: { estimate: 1 } });
    expect(at(0.9, 0, 1)).toMatchObject({ precision: null, recall: zero, f1: zero, falsePositiveRate: zero });
    expect(() => at(0.5)).toThrow(expect.objectContaining({ code: 'metric-undefined' }));
  });

  it('refuses samples that do not define the metric', () => {
    const negatives = drawn(5, seededRandom(4), 0);
    const refusal = expect(() => bootstrap(negatives, areaUnderRoc));
    refusal.toThrow(EvaluationError);
    refusal.toThrow(expect.objectContaining({ code: 'metric-undefined' }));
    expect(() => bootstrap([], averagePrecision)).toThrow(EvaluationError);
  });
});

describe('the interval of a share', () => {
  it.each([
    [3, 3, 0.438503, 1],
    [0, 20, 0, 0.161125],
    [8, 10, 0.490162, 0.943318],
    [119, 182, 0.582193, 0.719139],
  ])("is Wilson's: %i of %i", (successes, trials, lower, upper) => {
    const interval = proportion(successes, trials)!;
    expect(interval.estimate).toBe(successes / trials);
    expect(interval.lower).toBeCloseTo(lower, 6);
    expect(interval.upper).toBeCloseTo(upper, 6);
  });

  it('has the shares at its ends that the score test is about to reject', () => {
    const confidences = [
      [0.68268949213708585, 1],
      [0.9, 1.6448536269514722],
      [0.99, 2.5758293035489004],
    ] as const;
    fc.assert(
      fc.property(fc.constantFrom(...confidences), fc.integer({ min: 1, max: 3000 }), fc.nat(), (of, trials, drawn) => {
        const [confidence, deviations] = of;
        const { estimate, lower, upper } = proportion(drawn % (trials + 1), trials, confidence)!;
        for (const end of [lower, upper]) {
          // At 0 and 1 a share has no deviation, and is its own end.
          const deviation = Math.sqrt((end * (1 - end)) / trials);
          expect(Math.abs(estimate - end)).toBeCloseTo(deviations * deviation, 7);
        }
        expect(upper).toBeGreaterThan(lower);
      }),
    );
  });
});
