import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { sigmoid } from '../guard/calibration/log-odds.ts';
import { resamplesOf } from '../guard/evaluation/bootstrap.ts';
import { holm } from '../guard/evaluation/holm.ts';
import { comparedMetrics, definedMetrics, layOut, type Pair, undrawn, valuesOf } from '../guard/evaluation/laid-out.ts';
import {
  areaUnderRoc,
  averagePrecision,
  brier,
  confusionAt,
  expectedCalibrationError,
  type Labelled,
  logLoss,
  truePositiveRateAt,
} from '../guard/evaluation/metrics.ts';
import { comparePaired, negligible } from '../guard/evaluation/paired.ts';
import { seededRandom, standardNormal } from '../kernels/random.ts';

/** By 0.5, both. */
const decided = (pair: Pair): Pair => ({ ...pair, flagged: [pair.before >= 0.5, pair.after >= 0.5] });

describe("Holm's adjustment", () => {
  it('is that of p.adjust in R', () => {
    // p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    expect(holm([0.01, 0.04, 0.03, 0.005])).toEqual([0.03, 0.06, 0.06, 0.02]);
    expect(holm([0.9, 0.8])).toEqual([1, 1]);
    expect(holm([])).toEqual([]);
  });

  it('keeps the order, and lies between the p-value and that of Bonferroni', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 20 }), (pValues) => {
        const adjusted = holm(pValues);
        for (const [i, p] of pValues.entries()) {
          expect(adjusted[i]).toBeGreaterThanOrEqual(p);
          expect(adjusted[i]).toBeLessThanOrEqual(Math.min(1, p * pValues.length));
          for (const [j, other] of pValues.entries())
            if (p < other) expect(adjusted[i]).toBeLessThanOrEqual(adjusted[j]!);
        }
      }),
    );
  });
});

describe('figures of samples that are laid out', () => {
  const label = fc.constantFrom<0 | 1>(0, 1);
  const score = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 0.2, 0.5, 1));
  const sample = fc.record({
    label,
    before: score,
    after: score,
    count: fc.integer({ min: 0, max: 3 }),
    swap: fc.constantFrom(0, 1),
  });
  const metrics: Record<(typeof comparedMetrics)[number], (samples: readonly Labelled[]) => number | null> = {
    auprc: averagePrecision,
    auroc: areaUnderRoc,
    truePositiveRateAt1: (samples) => truePositiveRateAt(samples, 0.01),
    f1: (samples) => confusionAt(samples, 0.5).f1,
    ece: (samples) => expectedCalibrationError(samples),
    brier,
    logLoss,
  };

  it('are those of the samples one by one, each as often as it is counted, and of the other system where swapped', () => {
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 40 }), (samples) => {
        const drawn = {
          counts: Uint16Array.from(samples, ({ count }) => count),
          swapped: Uint8Array.from(samples, ({ swap }) => swap),
        };
        const laidOut = layOut(samples.map(decided));
        for (const side of [0, 1] as const) {
          const repeated = samples.flatMap(({ label, before, after, count, swap }) =>
            Array.from({ length: count }, () => ({ label, score: swap === side ? before : after })),
          );
          fc.pre(repeated.some(({ label }) => label === 1) && repeated.some(({ label }) => label === 0));
          // Ranks of two systems are on a scale of their own, so that what is mixed of both is compared without swaps.
          const ranked = samples.flatMap(({ label, before, after, count }) =>
            Array.from({ length: count }, () => ({ label, score: side === 0 ? before : after })),
          );
          const unswapped = valuesOf(laidOut, side, { ...drawn, swapped: undrawn(samples.length).swapped });
          const figures = valuesOf(laidOut, side, drawn);
          for (const metric of comparedMetrics) {
            expect(unswapped[metric], metric).toBeCloseTo(metrics[metric](ranked)!, 11);
            if (!metric.startsWith('au') && metric !== 'truePositiveRateAt1') {
              expect(figures[metric], metric).toBeCloseTo(metrics[metric](repeated)!, 11);
            }
          }
        }
      }),
    );
  });

  it('swap what two systems said by its rank', () => {
    // The first has the order of the labels, the second its reverse, on another scale.
    const pairs = ([1, 1, 0, 0] as const).map((label, i) => ({ label, before: 0.9 - i / 10, after: 7 + i }));
    const laidOut = layOut(pairs);
    const { counts, swapped } = undrawn(4);
    const auroc = (side: 0 | 1, swaps: Uint8Array) => valuesOf(laidOut, side, { counts, swapped: swaps }).auroc;
    expect([auroc(0, swapped), auroc(1, swapped)]).toEqual([1, 0]);
    const all = new Uint8Array(4).fill(1);
    expect([auroc(0, all), auroc(1, all)]).toEqual([0, 1]);
    // Places 4, 2, 3 and 4, with those of the outer two swapped: of four couples one in order and one tied.
    expect(auroc(0, Uint8Array.of(1, 0, 0, 0))).toBe((0 + 0.5 + 1 + 1) / 4);
  });

  it('are defined by labels and scales', () => {
    const of = (pairs: readonly Pair[]) => definedMetrics(pairs, layOut(pairs));
    expect(of([])).toEqual([]);
    expect(of([{ label: 0, before: 0.5, after: 0.6 }])).toEqual(['ece', 'brier', 'logLoss']);
    const severities = [
      { label: 0, before: 0.5, after: 5 },
      { label: 1, before: 0.6, after: 7 },
    ] as const;
    expect(of(severities)).toEqual(['auprc', 'auroc', 'truePositiveRateAt1']);
  });
});

/** Two systems that know the same of the labels, each with noise of its own. */
function equals(size: number, positives: number, random: () => number, after = (logOdds: number) => logOdds): Pair[] {
  return Array.from({ length: size }, (_, i) => {
    const label = i < positives ? 1 : 0;
    const known = 1.5 * standardNormal(random) + (label ? 1.2 : -1.2);
    const [one, other] = [known + standardNormal(random), known + standardNormal(random)];
    return { label, before: sigmoid(one), after: sigmoid(after(other)) };
  });
}

const compare = (pairs: readonly Pair[], options = {}) => {
  const { figures, tests } = comparePaired([{ pairs: pairs.map(decided), metrics: comparedMetrics }], options);
  return { tests, of: Object.fromEntries(figures[0]!.map((figure) => [figure.metric, figure])) };
};

describe('systems that are compared', () => {
  it('are told from each other by chance no more often than 5% of the families', () => {
    const random = seededRandom(21);
    const trials = 100;
    let [families, rare, scales] = [0, 0, 0];
    const ranking = ['auprc', 'auroc', 'truePositiveRateAt1'] as const;
    for (let seed = 0; seed < trials; seed++) {
      const told = (pairs: readonly Pair[], metrics: readonly (typeof comparedMetrics)[number][]) => {
        const { figures } = comparePaired([{ pairs: pairs.map(decided), metrics }], { resamples: 20, seed });
        return figures[0]!.some(({ beyondChance }) => beyondChance);
      };
      if (told(equals(100, 33, random), comparedMetrics)) families++;
      if (told(equals(100, 10, random), comparedMetrics)) rare++;
      // As good a ranking on another scale is neither better nor worse.
      if (
        told(
          equals(100, 33, random, (z) => 3 * z - 1),
          ranking,
        )
      )
        scales++;
    }
    // 0.05 with three standard deviations of a share of so many trials.
    const most = trials * (0.05 + 3 * Math.sqrt((0.05 * 0.95) / trials));
    expect(families).toBeLessThanOrEqual(most);
    expect(rare).toBeLessThanOrEqual(most);
    expect(scales).toBeLessThanOrEqual(most);
  });

  it('are told from each other where one is better', () => {
    const random = seededRandom(3);
    const pairs = equals(400, 150, random).map((pair) => ({ ...pair, before: (pair.before + 3 * random()) / 4 }));
    const { of, tests } = compare(pairs, { resamples: 100 });
    expect(tests).toBe(6);
    for (const metric of ['auprc', 'auroc'] as const) {
      expect(of[metric]).toMatchObject({ beyondChance: true });
      expect(of[metric]!.difference.lower).toBeGreaterThan(0);
      expect(of[metric]!.difference.estimate).toBe(of[metric]!.after.estimate - of[metric]!.before.estimate);
      expect(of[metric]!.p).toBeGreaterThan(0);
      expect(of[metric]!.pHolm).toBeGreaterThanOrEqual(of[metric]!.p!);
    }
    const back = compare(
      pairs.map(({ label, before, after }) => ({ label, before: after, after: before })),
      { resamples: 100 },
    );
    expect(back.of.auprc!.difference.estimate).toBe(-of.auprc!.difference.estimate);
    expect(back.of.auprc!.p).toBe(of.auprc!.p);
  });

  it('differ by no test in ECE, which is biased', () => {
    const random = seededRandom(4);
    // Both are perfectly calibrated; the one that knows more looks worse.
    const pairs = Array.from({ length: 500 }, (): Pair => {
      const after = sigmoid(2 * standardNormal(random) - 0.5);
      return { label: random() < after ? 1 : 0, before: 0.42, after };
    });
    const { of } = compare(pairs, { resamples: 100 });
    expect(of.ece!.difference.lower).toBeGreaterThan(0);
    expect(of.ece).toMatchObject({ p: null, pHolm: null, beyondChance: null });
    expect(of.brier).toMatchObject({ beyondChance: true });
    expect(of.brier!.difference.upper).toBeLessThan(0);
  });

  it('are the same where they differ by rounding, however regularly', () => {
    const pairs = equals(300, 100, seededRandom(5)).map(({ label, before }) => ({
      label,
      before,
      after: before + (label === 1 ? 1e-6 : -1e-6) * before,
    }));
    const { of } = compare(pairs, { resamples: 50 });
    expect(of.brier!.pHolm).toBeLessThan(0.05);
    expect(Math.abs(of.brier!.difference.estimate)).toBeLessThan(negligible);
    expect(of.brier!.beyondChance).toBe(false);
    expect(of.logLoss!.beyondChance).toBe(false);
  });

  it('are resampled alike, whatever their scores, and by the seed alone', () => {
    const one = equals(60, 20, seededRandom(6));
    const other = one.map((pair, i) => ({ ...pair, before: pair.before + 1e-9 * (i % 2), after: 1 - pair.after }));
    const drawn = (pairs: readonly Pair[], seed: number) => [...resamplesOf(pairs, { resamples: 5, seed })];
    expect(drawn(one, 7)).toEqual(drawn(other, 7));
    expect(drawn(one, 7)).not.toEqual(drawn(one, 8));
    const shifted = compare(other, { resamples: 50 }).of.brier!.before;
    const own = compare(one, { resamples: 50 }).of.brier!.before;
    for (const bound of ['estimate', 'lower', 'upper'] as const) expect(shifted[bound]).toBeCloseTo(own[bound], 8);
    expect(compare(one, { resamples: 50, seed: 2 })).toEqual(compare(one, { resamples: 50, seed: 2 }));
  });

  it('can be told apart in one test of many', () => {
    const random = seededRandom(8);
    const same = (): Pair[] => equals(80, 30, random);
    const better = equals(80, 30, random).map((pair) => ({ ...pair, after: 0.1 + 0.8 * pair.label }));
    const pairings = [better, ...Array.from({ length: 9 }, same)].map((pairs) => ({
      pairs: pairs.map(decided),
      metrics: comparedMetrics,
    }));
    const { figures, tests } = comparePaired(pairings, { resamples: 30 });
    expect(tests).toBe(60);
    expect(figures[0]!.find(({ metric }) => metric === 'brier')).toMatchObject({ beyondChance: true });
    expect(
      figures
        .slice(1)
        .flat()
        .filter(({ beyondChance }) => beyondChance),
    ).toEqual([]);
  });
});
