import { describe, expect, it } from 'vitest';
import { EvaluationError } from '../guard/errors.ts';
import { compareSystems, type Difference, type SystemComparison } from '../guard/evaluation/compare.ts';
import type { Row, Run } from '../guard/evaluation/run.ts';
import { describeComparison, describeRefused, differenceTable } from '../guard/evaluation/tables.ts';
import { packageVersion } from '../guard/version.ts';
import { rowOf, syntheticRun } from './support/runs.ts';

const calibrated = 'guard, calibrated';
const find = ({ differences }: SystemComparison, metric: Difference['metric'], code?: string, way = 'overall') =>
  differences.find((row) => row.metric === metric && row.way === way && row.code === code)!;
const changed = (run: Run, change: (row: Row, i: number) => Partial<Row>): Run => ({
  ...run,
  rows: run.rows.map((row, i) => ({ ...row, ...change(row, i) })),
});
const uncalibrated = (run: Run) => changed(run, () => ({ calibrated: null }));
const few = { resamples: 20 };

describe('two runs', () => {
  const [weak, strong] = [uncalibrated(syntheticRun(300, 0.2)), uncalibrated(syntheticRun(300, 0.9))];

  it('differ beyond chance where one is better', () => {
    const comparison = compareSystems({ run: weak }, { run: strong }, { resamples: 100, ways: ['overall'] });
    expect(comparison).toMatchObject({ common: 300, tests: 6, refused: [] });
    expect(comparison.settings).toEqual({ resamples: 100, confidence: 0.95, seed: 1, version: packageVersion });
    const auprc = find(comparison, 'auprc');
    expect(auprc).toMatchObject({ way: 'overall', samples: 300, beyondChance: true });
    expect(auprc.difference.lower).toBeGreaterThan(0);
    const stricter = compareSystems(
      { run: weak },
      { run: { ...weak, threshold: 0.99 } },
      { ...few, ways: ['overall'] },
    );
    expect(find(stricter, 'f1').difference.upper).toBeLessThan(0);
    expect(find(stricter, 'f1').beyondChance).toBe(true);
    expect(find(stricter, 'auprc').beyondChance).toBe(false);
    expect(stricter.differing).toEqual([{ field: 'threshold', before: 0.5, after: 0.99 }]);
  });

  it('do not differ from themselves', () => {
    const same = compareSystems({ run: strong }, { run: strong }, few);
    expect(same.tests).toBe(30);
    for (const { difference, p, pHolm, beyondChance, metric } of same.differences) {
      expect(difference).toEqual({ estimate: 0, lower: 0, upper: 0 });
      expect([p, pHolm, beyondChance]).toEqual(metric === 'ece' ? [null, null, null] : [1, 1, false]);
    }
    expect(differenceTable(same).title).toBe('guard, before and after');
    expect(describeComparison(same)[0]).toBe('Nothing differs: the same system, on the same data.');
  });

  it('are compared on what both have', () => {
    const part = { ...strong, rows: [...strong.rows.slice(20), rowOf('other', {})] };
    expect(compareSystems({ run: strong }, { run: part }, few)).toMatchObject({
      common: 280,
      onlyBefore: 20,
      onlyAfter: 1,
    });
  });

  it('tell what differs', () => {
    const { identity } = strong;
    const other: Run = {
      ...strong,
      identity: {
        ...identity,
        dtype: 'q8',
        hashes: { ...identity.hashes, policy: 'f'.repeat(64) },
        options: { categories: 'none' },
      },
    };
    const comparison = compareSystems({ run: strong }, { run: other }, few);
    expect(comparison.differing).toEqual([
      { field: 'dtype', before: 'f32', after: 'q8' },
      { field: 'hashes.policy', before: 'b'.repeat(64), after: 'f'.repeat(64) },
      { field: 'options.categories', before: undefined, after: 'none' },
    ]);
    expect(describeComparison(comparison)[0]).toBe(
      'What differs: dtype f32 → q8; hashes.policy bbbbbbbbbbbb → ffffffffffff; options.categories none → none',
    );
  });

  it.each<[string, Run, RegExp]>([
    ['no sample in common', { ...strong, rows: [rowOf('other', {})] }, /no sample in common/],
    [
      'other labels',
      changed(strong, (_, i) => (i === 7 ? { unsafe: null } : {})),
      /label samples differently: 1 of the 300 in common, "s7" first/,
    ],
    [
      'other texts',
      changed(strong, (_, i) => (i > 5 ? { content: 'x' } : {})),
      /other texts under the same ids: 294 of the 300 in common, "s6" first/,
    ],
  ])('are refused with %s', (_, run, message) => {
    const refusal = expect(() => compareSystems({ run: strong }, { run }));
    refusal.toThrow(EvaluationError);
    refusal.toThrow(expect.objectContaining({ code: 'run-invalid', message: expect.stringMatching(message) }));
  });

  it.each<[string, Run, string]>([
    [
      'scores them by itself on one side alone',
      changed(strong, () => ({ categoryScores: undefined })),
      'one side scores the category by itself, the other has one score for all categories',
    ],
    [
      'has another meaning',
      {
        ...strong,
        categories: [
          { code: 'O1', name: 'Weapons' },
          { code: 'O2', name: 'Fraud' },
        ],
      },
      'it is "Violence" in the one and "Weapons" in the other',
    ],
    ['is in one policy alone', { ...strong, categories: [] }, 'only the policy of the first has it'],
    [
      'has other labels',
      changed(strong, (row, i) => (i === 3 ? { categories: { ...row.categories, O1: 1 } } : {})),
      'the two runs label the sample "s3" differently in it',
    ],
    [
      'is not labelled in one of the runs',
      changed(strong, ({ categories }) => ({ categories: { O2: categories.O2! } })),
      'differently in it',
    ],
  ])('leave out, and tell, a category that %s', (_, run, why) => {
    const comparison = compareSystems({ run: strong }, { run }, few);
    expect(find(comparison, 'auprc')).toBeDefined();
    expect(find(comparison, 'auprc', 'O1', '1-vs-benign')).toBeUndefined();
    const reasons = comparison.refused.filter(({ code }) => code === 'O1').map(({ why }) => why);
    expect(reasons.at(-1)).toContain(why);
    expect(describeRefused(comparison.refused).join('\n')).toContain(`1-vs-benign, O1`);
  });
});

describe('two systems of a run', () => {
  const run = syntheticRun(400, 0.4);
  // Sharper than it may be: a third is far too sure.
  const sure = changed(run, ({ score }) => ({
    score: score > 0.5 ? 1 - (1 - score) / 10 : score / 10,
    calibrated: 0.25 + score / 2,
  }));

  it('are what decides unless they are named', () => {
    const raw = { ...uncalibrated(sure) };
    const { before, after, differing } = compareSystems({ run: raw }, { run: sure }, few);
    expect([before.system, after.system]).toEqual(['guard', calibrated]);
    expect([before.threshold, after.threshold]).toEqual([0.5, 0.3]);
    expect(differing.slice(0, 2)).toEqual([
      { field: 'system', before: 'guard', after: calibrated },
      { field: 'threshold', before: 0.5, after: 0.3 },
    ]);
  });

  it('show what a calibration changes: probabilities, and no ranking', () => {
    const comparison = compareSystems({ run: sure, system: 'guard' }, { run: sure, system: calibrated }, few);
    expect(find(comparison, 'auprc')).toMatchObject({
      difference: { estimate: 0, lower: 0, upper: 0 },
      beyondChance: false,
    });
    for (const metric of ['brier', 'logLoss'] as const) {
      expect(find(comparison, metric).difference.upper, metric).toBeLessThan(0);
      expect(find(comparison, metric).beyondChance, metric).toBe(true);
    }
    expect(comparison.refused).toContainEqual({
      way: '1-vs-all',
      code: 'O1',
      why: `"${calibrated}" has no scores of it`,
    });
    const { title, columns, rows, notes } = differenceTable(comparison);
    expect(title).toBe(`From guard to ${calibrated}`);
    expect(columns.slice(-4)).toEqual(['difference', 'p', 'adjusted', 'beyond chance']);
    expect(rows.map((cells) => cells.at(-1))).toEqual(['no', 'no', 'no', expect.any(String), '–', 'yes', 'yes']);
    expect(notes.join()).toContain('adjusted for the 6 tests of this table');
  });

  it('may be on other scales, and are then ranked alone', () => {
    const { differences } = compareSystems({ run, system: 'guard' }, { run, system: 'severity 0-7' }, few);
    expect(differences.map(({ metric, way }) => [way, metric])).toEqual([
      ['overall', 'auprc'],
      ['overall', 'auroc'],
      ['overall', 'truePositiveRateAt1'],
    ]);
    expect(differences[0]!.difference.upper).toBeLessThan(0);
  });

  it('are compared on the samples that both answered', () => {
    const sparse = changed(run, (row, i) => (i % 2 ? { others: {} } : { others: { api: row.score } }));
    const comparison = compareSystems({ run: sparse, system: 'guard' }, { run: sparse, system: 'api' }, few);
    expect(find(comparison, 'auprc')).toMatchObject({ samples: 200, difference: { estimate: 0 } });
  });

  it('differ where only the thresholds by role do', () => {
    const byRole = { ...run, calibratedThresholds: { user: 0.2, agent: 0.9 } };
    const { before, after, differing } = compareSystems({ run: byRole }, { run }, few);
    expect([before.threshold, after.threshold]).toEqual([null, run.calibratedThreshold]);
    expect(differing.map(({ field }) => field).toSorted()).toEqual(['threshold', 'threshold.agent', 'threshold.user']);
  });

  it('must be there, and be asked something', () => {
    const unknown = expect(() => compareSystems({ run, system: 'gpt' }, { run }));
    unknown.toThrow(
      expect.objectContaining({
        code: 'system-unknown',
        message: expect.stringContaining(
          'no system "gpt"; it has "guard", "guard, unsafeProbability", "guard, calibrated", "api", "severity 0-7"',
        ),
      }),
    );
    const safe = changed(run, () => ({ unsafe: 0, categories: {} }));
    const nothing = expect(() => compareSystems({ run: safe }, { run: safe }));
    nothing.toThrow(
      expect.objectContaining({
        code: 'metric-undefined',
        message: expect.stringContaining('overall: the samples that both answered are not of both labels'),
      }),
    );
  });
});
