import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assertCalibrates,
  type Calibration,
  calibrationOf,
  parseCalibration,
  type Setting,
} from '../guard/calibration/calibration.ts';
import { type ContentFreeAnswer, type FitSubject, fitCalibration, type LeftOut } from '../guard/calibration/fit.ts';
import { logOdds, sigmoid } from '../guard/calibration/log-odds.ts';
import { applyMap, methodNames } from '../guard/calibration/methods.ts';
import { fitNotes } from '../guard/calibration/notes.ts';
import { metricNames, reportCalibration } from '../guard/calibration/report.ts';
import { parseRule } from '../guard/calibration/rule.ts';
import { type Scored, split } from '../guard/calibration/samples.ts';
import { CalibrationError, OptionError } from '../guard/errors.ts';
import { confusionAt } from '../guard/evaluation/metrics.ts';
import { type Role, roles } from '../guard/messages.ts';
import { seededRandom, standardNormal } from '../kernels/random.ts';

const hash = (digit: string) => digit.repeat(64);
const subject: FitSubject = {
  model: { name: 'tiny-guard', hash: hash('a') },
  dtype: 'f16',
  policy: hash('b'),
  instruction: { user: hash('c'), agent: hash('d') },
  categoryMode: 'joint',
};

/** Log-odds of either role are as many times too large; O1 is every other unsafe sample, O2 is never violated. */
function overconfident(count: number, factors: Readonly<Record<Role, number>>, seed = 1): Scored[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, (_, i): Scored => {
    const role = roles[i % 2]!;
    const odds = 1.5 * standardNormal(random);
    const unsafe = random() < sigmoid(odds) ? 1 : 0;
    const score = sigmoid(factors[role] * odds);
    const O1 = unsafe === 1 && random() < 0.5 ? 1 : 0;
    return {
      line: i + 1,
      role,
      score,
      unsafe: i % 10 === 9 ? null : unsafe,
      categories: { O1, O2: 0 },
      categoryScores: { O1: O1 === 1 ? score : score / 2, O2: 0.01, O3: score },
    };
  });
}

const samples = overconfident(6000, { user: 2, agent: 4 });

describe('fitCalibration', () => {
  it('fits every role by itself', () => {
    const { roles } = fitCalibration(samples, subject, { method: 'temperature' });
    for (const [role, factor] of [
      ['user', 2],
      ['agent', 4],
    ] as const) {
      const { map } = roles[role]!.overall;
      expect(map.method).toBe('temperature');
      if (map.method === 'temperature') expect(map.parameters.temperature / factor).toBeCloseTo(1, 1);
      expect(roles[role]!.instruction).toBe(subject.instruction[role]);
    }
  });

  it('fits the categories that have labels of both kinds, and leaves out the others', () => {
    const { roles } = fitCalibration(samples, subject, { method: 'platt', threshold: { recall: 0.9 } });
    expect(Object.keys(roles.user!.categories)).toEqual(['O1']);
    const { samples: count, positives, threshold } = roles.user!.categories.O1!;
    const own = samples.filter(({ role }) => role === 'user');
    expect([count, positives]).toEqual([own.length, own.filter(({ categories }) => categories.O1 === 1).length]);
    expect(threshold?.rule).toBe('recall=0.9');
  });

  it('takes every score for batch calibration, and the labels of none', () => {
    const unlabelled = samples.map((sample) => ({ ...sample, unsafe: null, categories: {} }));
    const { roles } = fitCalibration(unlabelled, subject, { method: 'batch' });
    const own = samples.filter(({ role }) => role === 'user').map(({ score }) => score);
    const { map, samples: count } = roles.user!.overall;
    expect(count).toBe(0);
    expect(map).toMatchObject({ method: 'batch' });
    if (map.method === 'batch') expect(map.parameters.prior).toBeCloseTo(own.reduce((a, b) => a + b) / own.length, 12);
    expect(Object.keys(roles.user!.categories)).toEqual(['O1', 'O2', 'O3']);
  });

  it('keeps what was measured for contextual calibration, by role and category', () => {
    const contentFree: ContentFreeAnswer[] = [
      { role: 'user', text: 'N/A', score: 0.2, categoryScores: { O1: 0.1 } },
      { role: 'user', text: '', score: 0.4, categoryScores: { O1: 0.3 } },
      { role: 'agent', text: 'N/A', score: 0.6 },
    ];
    const { roles } = fitCalibration(samples, subject, { method: 'contextual', contentFree });
    const parametersOf = (...scores: [string, number][]) => ({
      contentFree: scores.map(([text, score]) => ({ text, score })),
    });
    expect(roles.user!.overall.map.parameters).toEqual(parametersOf(['N/A', 0.2], ['', 0.4]));
    expect(roles.user!.categories.O1!.map.parameters).toEqual(parametersOf(['N/A', 0.1], ['', 0.3]));
    expect(roles.agent!.overall.map.parameters).toEqual(parametersOf(['N/A', 0.6]));
    expect(roles.agent!.categories).toEqual({});
  });

  it.each([
    ['f1', 'f1'],
    ['fpr=0.01', { fpr: 0.01 }],
    ['recall=0.95', { recall: 0.95 }],
  ] as const)('chooses a threshold by %s that keeps its promise', (text, rule) => {
    expect(parseRule(text)).toEqual(rule);
    const { map, threshold } = fitCalibration(samples, subject, { method: 'platt', threshold: rule }).roles.user!
      .overall;
    expect(threshold!.rule).toBe(text);
    const labels = samples.flatMap(({ role, score, unsafe }) =>
      role === 'user' && unsafe !== null ? [{ score: applyMap(map, score), label: unsafe }] : [],
    );
    const { recall, falsePositives, trueNegatives } = confusionAt(labels, threshold!.value);
    if (text === 'recall=0.95') expect(recall).toBeGreaterThanOrEqual(0.95);
    if (text === 'fpr=0.01') expect(falsePositives / (falsePositives + trueNegatives)).toBeLessThanOrEqual(0.01);
    expect(recall).toBeGreaterThan(0.05);
  });

  it.each(['', 'fpr', 'fpr=', 'fpr=1', 'fpr=-0.1', 'recall=0', 'recall=1.1', 'recall=x', 'F1', '0.5'])(
    'refuses the rule %j',
    (text) => {
      expect(() => parseRule(text)).toThrow(OptionError);
    },
  );

  it('refuses a role without unsafe samples, and says where it begins', () => {
    const harmless = samples.map((sample) => (sample.role === 'agent' ? { ...sample, unsafe: 0 as const } : sample));
    const refusal = expect(() => fitCalibration(harmless, subject, { method: 'platt' }));
    refusal.toThrow(CalibrationError);
    refusal.toThrow(
      'platt learns from safe and unsafe samples, but of the 3000 samples of role agent (line 2 first) 3000 are ' +
        'labelled and none of them unsafe.',
    );
  });

  it('tells why a category is left out', () => {
    const turned = samples.map(({ categoryScores, ...sample }) => ({
      ...sample,
      categoryScores: { ...categoryScores, O1: 1 - categoryScores!.O1! },
    }));
    const leftOut: LeftOut[] = [];
    const onLeftOut = (category: LeftOut) => leftOut.push(category);
    const notes = fitNotes(fitCalibration(turned, subject, { method: 'platt', onLeftOut }), leftOut);
    expect(notes.filter((note) => note.startsWith('Of role user'))).toEqual([
      expect.stringMatching(/^Of role user, left out: O1\. Platt scaling needs unsafe samples to score higher/),
      'Of role user, left out: O2, O3. Samples of either label are missing.',
    ]);
  });

  it('tells where the samples do not decide the temperature', () => {
    const notesOn = (scores: readonly [number, number], ...unsafe: readonly (0 | 1)[]) => {
      const drawn = unsafe.map((label, i): Scored => {
        return { line: i + 1, role: 'user', score: scores[label], unsafe: label, categories: {} };
      });
      return fitNotes(fitCalibration(drawn, subject, { method: 'temperature' }), []);
    };
    expect(notesOn([0.2, 0.8], 0, 1)).toEqual([
      expect.stringMatching(/^Of role user, whole policy: .* lower bound, 0\.05/),
    ]);
    expect(notesOn([0.8, 0.2], 0, 1)).toEqual([
      expect.stringMatching(/upper bound, 20: scores hardly tell the labels apart/),
    ]);
    expect(fitNotes(fitCalibration(samples, subject, { method: 'temperature' }), [])).toEqual([]);
  });

  it('refuses to fit on nothing', () => {
    const refusal = expect(() => fitCalibration([], subject, { method: 'batch' }));
    refusal.toThrow(CalibrationError);
    // None was drawn, perhaps, of many that were scored.
    refusal.toThrow(/larger share \(--fit\)/);
  });

  it('refuses a threshold that nothing reaches, but a category then goes without', () => {
    const line = (score: number, unsafe: 0 | 1, O1: 0 | 1): Scored => ({
      line: 1,
      role: 'user',
      score,
      unsafe,
      categories: { O1 },
      categoryScores: { O1: score },
    });
    const bad = [line(0.9, 0, 0), line(0.8, 1, 0), line(0.7, 1, 0), line(0.2, 0, 0)];
    const refusal = expect(() => fitCalibration(bad, subject, { method: 'batch', threshold: { fpr: 0.1 } }));
    refusal.toThrow(expect.objectContaining({ code: 'threshold-unreachable' }));
    refusal.toThrow('fpr=0.1 on the 4 samples of role user (line 1 first)');
    const good = [line(0.9, 1, 0), line(0.8, 1, 1), line(0.7, 0, 0)];
    const { overall, categories } = fitCalibration(good, subject, { method: 'batch', threshold: { fpr: 0.1 } }).roles
      .user!;
    expect(overall.threshold).toBeDefined();
    expect(categories.O1!.threshold).toBeUndefined();
  });
});

describe('the calibration file', () => {
  const calibration = fitCalibration(samples, subject, { method: 'isotonic', threshold: 'f1' });
  const setting: Setting = { role: 'user', policy: hash('b'), instruction: hash('c'), categoryMode: 'joint' };

  it.each(methodNames)('of %s is read as it was written', (method) => {
    const contentFree = roles.map((role): ContentFreeAnswer => ({ role, text: '', score: 0.3 }));
    const written = fitCalibration(samples, subject, { method, threshold: 'f1', contentFree });
    expect(parseCalibration(JSON.parse(JSON.stringify(written)), 'c.json')).toEqual(written);
  });

  /** The file with another value in the place of a dotted path. */
  function changed(path: string, value: unknown): unknown {
    const json: Record<string, unknown> = JSON.parse(JSON.stringify(calibration));
    const steps = path.split('.');
    const parent = steps.slice(0, -1).reduce((at, step) => at[step] as Record<string, unknown>, json);
    parent[steps.at(-1)!] = value;
    return json;
  }

  it.each<[string, unknown, string]>([
    ['something else', [], 'c.json: the file: '],
    ['another format', changed('format', 'x'), 'c.json: format: '],
    ['a later version', changed('version', 2), 'version: '],
    ['a broken hash', changed('policy', 'b'), 'policy: must be a SHA-256 hash'],
    ['an unknown dtype', changed('dtype', 'f8'), 'dtype: '],
    ['an unknown method', changed('roles.user.overall.map.method', 'magic'), 'roles.user.overall.map'],
    ['a threshold beyond 1', changed('roles.agent.overall.threshold.value', 2), 'overall.threshold.value'],
    ['an unknown field', changed('extra', 1), 'extra'],
  ])('with %s is refused', (_, json, message) => {
    const refusal = expect(() => parseCalibration(json, 'c.json'));
    refusal.toThrow(CalibrationError);
    refusal.toThrow(
      expect.objectContaining({ code: 'calibration-invalid', message: expect.stringContaining(message) }),
    );
  });

  it('is used with what it was fitted to', () => {
    expect(() => assertCalibrates(calibration, subject)).not.toThrow();
    expect(calibrationOf(calibration, setting)).toBe(calibration.roles.user);
    expect(calibrationOf(calibration, { ...setting, categoryMode: 'none' })).toBe(calibration.roles.user);
  });

  it.each<[string, (calibration: Calibration) => void, string]>([
    [
      'another model',
      (own) => assertCalibrates(own, { ...subject, model: { name: 'LlamaGuard-7b', hash: hash('e') } }),
      'the model tiny-guard (aaaaaaaaaaaa), but this is LlamaGuard-7b (eeeeeeeeeeee)',
    ],
    [
      'another dtype',
      (own) => assertCalibrates(own, { ...subject, dtype: 'q4' }),
      'weights in f16, but these are in q4',
    ],
    [
      'another policy',
      (own) => calibrationOf(own, { ...setting, policy: hash('f') }),
      'the policy bbbbbbbbbbbb, but this one is ffffffffffff',
    ],
    [
      'another role',
      ({ roles: { user }, ...own }) => calibrationOf({ ...own, roles: { user } }, { ...setting, role: 'agent' }),
      'the role user, but the judged one is agent',
    ],
    [
      'another instruction',
      (own) => calibrationOf(own, { ...setting, instruction: hash('f') }),
      'the instruction cccccccccccc, but this one is ffffffffffff',
    ],
    [
      'another way of category scores',
      (own) => calibrationOf(own, { ...setting, categoryMode: 'single' }),
      'category scores that are joint, but single ones were asked for',
    ],
  ])('is refused with %s, and says what differs', (_, use, message) => {
    const refusal = expect(() => use(calibration));
    refusal.toThrow(CalibrationError);
    refusal.toThrow(
      expect.objectContaining({ code: 'calibration-mismatch', message: expect.stringContaining(message) }),
    );
  });
});

describe('split', () => {
  const sample = fc.record({ role: fc.constantFrom(...roles), unsafe: fc.constantFrom(0, 1, null) });

  it('puts each sample on one side, in its order, and parts every kind by the share', () => {
    fc.assert(
      fc.property(fc.array(sample), fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(), (samples, share, seed) => {
        const { fit, rest } = split(samples, share, seed);
        expect([...fit, ...rest].length).toBe(samples.length);
        expect(new Set([...fit, ...rest])).toEqual(new Set(samples));
        const places = fit.map((own) => samples.indexOf(own));
        expect(places).toEqual(places.toSorted((a, b) => a - b));
        for (const kind of samples) {
          const alike = (own: typeof kind) => own.role === kind.role && own.unsafe === kind.unsafe;
          expect(fit.filter(alike).length).toBe(Math.round(share * samples.filter(alike).length));
        }
        expect(split(samples, share, seed)).toEqual({ fit, rest });
      }),
    );
  });

  it('depends on the seed', () => {
    expect(split(samples, 0.5, 1).fit).not.toEqual(split(samples, 0.5, 2).fit);
  });
});

describe('reportCalibration', () => {
  const { fit, rest } = split(samples, 0.5, 1);
  const calibration = fitCalibration(fit, subject, { method: 'temperature', threshold: { recall: 0.9 } });
  const report = reportCalibration(calibration, rest, { resamples: 100 });

  it('has a part for each role and each calibrated category', () => {
    expect(report.map(({ role, code }) => [role, code])).toEqual([
      ['user', undefined],
      ['user', 'O1'],
      ['agent', undefined],
      ['agent', 'O1'],
    ]);
  });

  it('shows better probabilities and an unchanged ranking on samples that the fit did not see', () => {
    for (const { metrics, decision } of report.filter(({ code }) => code === undefined)) {
      for (const name of ['ece', 'brier', 'logLoss'] as const) {
        const { before, after, change } = metrics[name]!;
        expect(after.estimate).toBeLessThan(before.estimate);
        expect(change.estimate).toBe(after.estimate - before.estimate);
        expect(change.upper, name).toBeLessThan(0);
        expect(after.lower).toBeLessThan(after.upper);
      }
      expect(metrics.auprc!.change).toEqual({ estimate: 0, lower: 0, upper: 0 });
      expect(decision!.recall!.estimate).toBeGreaterThan(0.85);
    }
  });

  it('has no figure where the samples define none', () => {
    const of = (labels: readonly (0 | 1 | null)[]) =>
      reportCalibration(
        calibration,
        labels.map((unsafe, i) => ({ line: i + 1, role: 'user', score: 0.5, unsafe, categories: {} })),
        { resamples: 10 },
      )[0]!;
    expect(of([null, null])).toMatchObject({
      samples: 0,
      metrics: Object.fromEntries(metricNames.map((name) => [name, null])),
    });
    const { metrics, positives } = of([0, 0]);
    expect(positives).toBe(0);
    expect(metrics.auprc).toBeNull();
    expect(metrics.brier!.before.estimate).toBe(0.25);
  });

  it('reads the same score as the file says', () => {
    const { map } = calibration.roles.user!.overall;
    if (map.method !== 'temperature') throw new Error(map.method);
    expect(applyMap(map, 0.9)).toBeCloseTo(sigmoid(logOdds(0.9) / map.parameters.temperature), 15);
  });
});
