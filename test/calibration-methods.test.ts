import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { batch } from '../guard/calibration/batch.ts';
import { contextual } from '../guard/calibration/contextual.ts';
import { isotonic } from '../guard/calibration/isotonic.ts';
import { logOdds, sigmoid } from '../guard/calibration/log-odds.ts';
import { applyMap, calibratedBy, calibrationMap, fitMap, methodNames } from '../guard/calibration/methods.ts';
import { platt } from '../guard/calibration/platt.ts';
import { temperature } from '../guard/calibration/temperature.ts';
import { CalibrationError } from '../guard/errors.ts';
import {
  areaUnderRoc,
  averagePrecision,
  expectedCalibrationError,
  type Labelled,
  logLoss,
} from '../guard/evaluation/metrics.ts';
import { seededRandom, standardNormal } from '../kernels/random.ts';

interface OracleCase {
  readonly name: string;
  readonly scores: readonly number[];
  readonly labels: readonly (0 | 1)[];
  readonly at: readonly number[];
  readonly expected: {
    readonly temperature: number;
    readonly slope: number;
    readonly intercept: number;
    readonly isotonic: readonly number[];
  };
}

const oracle: { readonly by: string; readonly cases: readonly OracleCase[] } = JSON.parse(
  readFileSync(new URL('oracles/calibration.json', import.meta.url), 'utf8'),
);

describe(`fits agree with ${oracle.by}`, () => {
  it.each(oracle.cases)('$name', ({ scores, labels, at, expected }) => {
    const samples = scores.map((score, i): Labelled => ({ score, label: labels[i]! }));
    expect(temperature.fit(samples).temperature / expected.temperature - 1).toBeCloseTo(0, 6);
    const { slope, intercept } = platt.fit(samples);
    expect(slope / expected.slope - 1).toBeCloseTo(0, 6);
    expect(intercept).toBeCloseTo(expected.intercept, 6);
    const fitted = isotonic.fit(samples);
    for (const [i, score] of at.entries()) {
      expect(Math.abs(isotonic.apply(fitted, score) - expected.isotonic[i]!)).toBeLessThan(1e-12);
    }
  });
});

/** Scores whose log-odds are normal, with labels that are unsafe as often as `probability` of the log-odds says. */
function drawn(count: number, seed: number, probability: (odds: number) => number, spread = 2): Labelled[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => {
    const odds = spread * standardNormal(random);
    return { score: sigmoid(odds), label: random() < probability(odds) ? 1 : 0 };
  });
}

describe('a known miscalibration', () => {
  it.each([0.5, 1, 2, 5])('is what temperature scaling finds: T = %d', (truth) => {
    const found = temperature.fit(drawn(20_000, 1, (odds) => sigmoid(odds / truth)));
    expect(found.temperature / truth).toBeGreaterThan(0.94);
    expect(found.temperature / truth).toBeLessThan(1.06);
  });

  it.each([
    [0.4, 1.5],
    [1, 0],
    [2, -3],
    [0.8, -1],
  ])('is what Platt scaling finds: slope %d, intercept %d', (slope, intercept) => {
    const found = platt.fit(drawn(20_000, 2, (odds) => sigmoid(slope * odds + intercept)));
    expect(Math.abs(found.slope - slope)).toBeLessThan(0.08 * slope);
    expect(Math.abs(found.intercept - intercept)).toBeLessThan(0.1);
  });

  it.each(['temperature', 'platt', 'isotonic'] as const)('is mended by %s on samples that it did not see', (method) => {
    const overconfident = (odds: number) => sigmoid(odds / 3);
    const labels = drawn(5_000, 3, overconfident, 4);
    const unseen = drawn(5_000, 4, overconfident, 4);
    const calibrated = calibratedBy(fitMap(method, { labels, scores: [], contentFree: [] }, 'them'), unseen);
    expect(expectedCalibrationError(unseen)!).toBeGreaterThan(0.1);
    expect(expectedCalibrationError(calibrated)!).toBeLessThan(0.04);
    expect(logLoss(calibrated)!).toBeLessThan(logLoss(unseen)!);
  });

  it.each(['contextual', 'batch'] as const)('of a shift is mended by %s without a label', (method) => {
    // Log-odds that are 1.5 too high for everything, for the texts that say nothing too.
    const unseen = drawn(5_000, 5, sigmoid).map(({ score, label }) => ({
      score: sigmoid(logOdds(score) + 1.5),
      label,
    }));
    const material = {
      labels: [],
      scores: unseen.map(({ score }) => score),
      contentFree: ['N/A', ''].map((text) => ({ text, score: sigmoid(1.5) })),
    };
    const calibrated = calibratedBy(fitMap(method, material, 'them'), unseen);
    expect(expectedCalibrationError(calibrated)!).toBeLessThan(expectedCalibrationError(unseen)! / 2);
  });
});

const label = fc.constantFrom<0 | 1>(0, 1);
const score = fc.oneof(
  fc.double({ min: 0, max: 1, noNaN: true }),
  fc.integer({ min: 0, max: 20 }).map((level) => level / 20),
  fc.double({ min: -30, max: 30, noNaN: true }).map(sigmoid),
);
const material = fc
  .tuple(fc.array(fc.record({ score, label }), { minLength: 2, maxLength: 80 }), fc.array(score, { minLength: 1 }))
  .filter(([samples]) => samples.some((sample) => sample.label === 1) && samples.some((sample) => sample.label === 0))
  .map(([labels, scores]) => ({
    labels,
    scores,
    contentFree: scores.map((score, i) => ({ text: `nothing ${i}`, score })),
  }));

/** The fit, or nothing where Platt scaling refuses scores that do not rise with the labels. */
function fitOrRefusal(method: (typeof methodNames)[number], of: Parameters<typeof fitMap>[1]) {
  try {
    return fitMap(method, of, 'them');
  } catch (error) {
    expect(method).toBe('platt');
    expect(error).toBeInstanceOf(CalibrationError);
    return undefined;
  }
}

describe.each(methodNames)('%s', (method) => {
  it('never falls where the score rises, and stays from 0 to 1', () => {
    fc.assert(
      fc.property(material, fc.array(score, { minLength: 2 }), (of, scores) => {
        const map = fitOrRefusal(method, of);
        if (!map) return;
        let last = 0;
        for (const rising of [0, ...scores.toSorted((a, b) => a - b), 1]) {
          const probability = applyMap(map, rising);
          // Neighbouring doubles may change places in the last digits of a logarithm.
          expect(probability).toBeGreaterThanOrEqual(last - 1e-14);
          expect(probability).toBeLessThanOrEqual(1);
          last = probability;
        }
      }),
    );
  });

  it('is the same after a way through its file', () => {
    fc.assert(
      fc.property(material, score, (of, at) => {
        const map = fitOrRefusal(method, of);
        if (!map) return;
        const read = calibrationMap.parse(JSON.parse(JSON.stringify(map)));
        expect(read).toEqual(map);
        expect(applyMap(read, at)).toBe(applyMap(map, at));
      }),
    );
  });

  it('keeps a ranking, but for the ties of isotonic regression', () => {
    const labels = drawn(2_000, 6, (odds) => sigmoid(0.5 * odds + 1));
    const scores = labels.map(({ score }) => score);
    const map = fitMap(method, { labels, scores, contentFree: [{ text: '', score: 0.7 }] }, 'them');
    const calibrated = calibratedBy(map, labels);
    if (method === 'isotonic') {
      expect(areaUnderRoc(calibrated)).toBeGreaterThanOrEqual(areaUnderRoc(labels)!);
      expect(new Set(calibrated.map(({ score }) => score)).size).toBeLessThan(scores.length);
    } else {
      expect(averagePrecision(calibrated)).toBe(averagePrecision(labels));
      expect(areaUnderRoc(calibrated)).toBe(areaUnderRoc(labels));
    }
  });
});

describe('calibration of extremes', () => {
  it('reads 0 and 1 as the numbers beside them', () => {
    expect(logOdds(0)).toBe(logOdds(2 ** -53));
    expect(logOdds(1)).toBe(logOdds(1 - 2 ** -53));
    expect(logOdds(1)).toBeCloseTo(-logOdds(0), 10);
    expect(sigmoid(logOdds(0.3))).toBeCloseTo(0.3, 15);
    for (const extreme of [0, 1]) {
      expect(temperature.apply({ temperature: 4 }, extreme)).toBeCloseTo(sigmoid(((extreme - 0.5) * 73.4) / 4), 3);
    }
  });

  it('bounds the temperature where no score is on the wrong side, or all are', () => {
    const right: Labelled[] = [0.1, 0.3, 0.8, 0.9].map((score) => ({ score, label: score > 0.5 ? 1 : 0 }));
    const wrong = right.map(({ score, label }): Labelled => ({ score, label: label === 1 ? 0 : 1 }));
    expect(temperature.fit(right)).toEqual({ temperature: 0.05 });
    expect(temperature.fit(wrong)).toEqual({ temperature: 20 });
  });

  it('keeps Platt scaling finite where the labels part cleanly, and refuses labels that are turned round', () => {
    const right: Labelled[] = [0.1, 0.3, 0.8, 0.9].map((score) => ({ score, label: score > 0.5 ? 1 : 0 }));
    const { slope } = platt.fit(right);
    expect(slope).toBeGreaterThan(0);
    expect(slope).toBeLessThan(10);
    const wrong = right.map(({ score, label }): Labelled => ({ score, label: label === 1 ? 0 : 1 }));
    expect(() => platt.fit(wrong)).toThrow(CalibrationError);
    const flat: Labelled[] = [0, 1, 1].map((label) => ({ score: 0.5, label: label as 0 | 1 }));
    expect(() => platt.fit(flat)).toThrow('unsafe samples to score higher');
  });

  it('takes off exactly what says nothing', () => {
    const contentFree = [0.2, 0.4].map((score) => ({ text: 'N/A', score }));
    expect(contextual.apply({ contentFree }, 0.3)).toBeCloseTo(0.5, 15);
    expect(batch.apply({ prior: 0.3 }, 0.3)).toBe(0.5);
    expect(batch.fit([0.1, 0.2, 0.6]).prior).toBeCloseTo(0.3, 15);
    // Both classes divided by their prior, and made to sum to 1.
    const [p, prior] = [0.8, 0.3];
    expect(batch.apply({ prior }, p)).toBeCloseTo(p / prior / (p / prior + (1 - p) / (1 - prior)), 14);
  });

  it('pools violators, and gives equal scores one probability', () => {
    const samples = [
      [0.1, 0],
      [0.2, 1],
      [0.3, 0],
      [0.3, 1],
      [0.9, 1],
    ].map(([score, label]) => ({ score: score!, label: label as 0 | 1 }));
    expect(isotonic.fit(samples).knots).toEqual([
      [0.1, 0],
      [0.2, 2 / 3],
      [0.3, 2 / 3],
      [0.9, 1],
    ]);
  });
});

describe('fitMap', () => {
  const nothing = { labels: [], scores: [], contentFree: [] };

  it.each([
    ['temperature', [], 'of the set 0 are labelled and none of them unsafe'],
    ['platt', [0, 0], 'of the set 2 are labelled and none of them unsafe'],
    ['isotonic', [1], 'of the set 1 are labelled and none of them safe'],
  ] as const)('refuses labels of one kind for %s', (method, labels, message) => {
    const samples = labels.map((label) => ({ score: 0.5, label }));
    const refusal = expect(() => fitMap(method, { ...nothing, labels: samples }, 'the set'));
    refusal.toThrow(CalibrationError);
    refusal.toThrow(expect.objectContaining({ code: 'fit-impossible', message: expect.stringContaining(message) }));
  });

  it.each(['contextual', 'batch'] as const)('refuses no scores at all for %s', (method) => {
    expect(() => fitMap(method, nothing, 'the set')).toThrow('of the set there are none');
  });

  it.each([
    ['an unknown method', { method: 'magic', parameters: {} }],
    ['a negative temperature', { method: 'temperature', parameters: { temperature: -1 } }],
    ['a falling slope', { method: 'platt', parameters: { slope: -1, intercept: 0 } }],
    [
      'knots that fall',
      {
        method: 'isotonic',
        parameters: {
          knots: [
            [0.1, 0.5],
            [0.2, 0.4],
          ],
        },
      },
    ],
    [
      'knots out of order',
      {
        method: 'isotonic',
        parameters: {
          knots: [
            [0.2, 0.4],
            [0.1, 0.5],
          ],
        },
      },
    ],
    ['no measurement', { method: 'contextual', parameters: { contentFree: [] } }],
    ['a field too many', { method: 'batch', parameters: { prior: 0.5, mean: 0.5 } }],
  ])('a file with %s is refused', (_, json) => {
    expect(calibrationMap.safeParse(json).success).toBe(false);
  });
});
