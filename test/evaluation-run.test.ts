import { describe, expect, it, test } from 'vitest';
import { compareSystems } from '../guard/evaluation/compare.ts';
import { categoryConfusion } from '../guard/evaluation/confusion.ts';
import { evaluate } from '../guard/evaluation/figures.ts';
import { latencyOf } from '../guard/evaluation/latency.ts';
import { massOf } from '../guard/evaluation/mass.ts';
import { averagePrecision } from '../guard/evaluation/metrics.ts';
import { labelsKeyOf } from '../guard/evaluation/node/score-file.ts';
import { orderEffects } from '../guard/evaluation/order-effects.ts';
import { readOtherScores } from '../guard/evaluation/other-scores.ts';
import { answersTo, questionsOf, systemsOf } from '../guard/evaluation/questions.ts';
import { renderEvaluation } from '../guard/evaluation/report.ts';
import { parseRun, type Row, type Run, scores, scoresOf } from '../guard/evaluation/run.ts';
import { describeRun, differenceTable, tablesOf } from '../guard/evaluation/tables.ts';
import type { Assessment } from '../guard/score.ts';
import { packageVersion } from '../guard/version.ts';
import { emptyRun as base, rowOf as row, syntheticRun as synthetic } from './support/runs.ts';

const rows = [
  row('both', { unsafe: 1, categories: { O1: 1, O2: 1 }, score: 0.9, categoryScores: { O1: 0.8, O2: 0.3 } }),
  row('first', { unsafe: 1, categories: { O1: 1, O2: 0 }, score: 0.7, categoryScores: { O1: 0.6, O2: 0.5 } }),
  row('second', { unsafe: 1, categories: { O1: 0, O2: 1 }, score: 0.4, categoryScores: { O1: 0.2, O2: 0.1 } }),
  row('benign', { unsafe: 0, categories: { O1: 0, O2: 0 }, score: 0.6, categoryScores: { O1: 0.1, O2: 0.4 } }),
  row('unnamed', { unsafe: 1, score: 0.8, categoryScores: { O1: 0.7, O2: 0.1 } }),
  row('unknown', { unsafe: null, score: 0.2, categoryScores: { O1: 0.1, O2: 0.1 } }),
];
const run = { ...base, rows };

describe('the three ways', () => {
  const [guard] = systemsOf(run);
  const ask = (way: 'overall' | '1-vs-all' | '1-vs-benign', code?: string) =>
    answersTo({ way, ...(code ? { code } : {}) }, guard, rows).map(({ id, score, label }) => [id, score, label]);

  it('take unsafe samples against safe ones', () => {
    expect(ask('overall')).toEqual([
      ['both', 0.9, 1],
      ['first', 0.7, 1],
      ['second', 0.4, 1],
      ['benign', 0.6, 0],
      ['unnamed', 0.8, 1],
    ]);
  });

  it('take one category against all else', () => {
    expect(ask('1-vs-all', 'O1')).toEqual([
      ['both', 0.8, 1],
      ['first', 0.6, 1],
      ['second', 0.2, 0],
      ['benign', 0.1, 0],
    ]);
  });

  it('take one category against what is benign, and leave out the positives of others', () => {
    expect(ask('1-vs-benign', 'O2')).toEqual([
      ['both', 0.3, 1],
      ['second', 0.1, 1],
      ['benign', 0.4, 0],
    ]);
  });

  it('ask a system without category scores only what it can answer', () => {
    const api = { name: 'api', threshold: 0.5, score: ({ id }: Row) => (id === 'first' ? undefined : 3) };
    expect(answersTo({ way: '1-vs-all', code: 'O1' }, api, rows)).toEqual([]);
    expect(answersTo({ way: '1-vs-benign', code: 'O1' }, api, rows).map(({ id }) => id)).toEqual(['both', 'benign']);
  });
});

test('categories are confused as they are named', () => {
  expect(categoryConfusion(run)).toEqual({
    names: ['safe', 'O1', 'O2'],
    counts: [
      [0, 0, 1],
      [0, 2, 0],
      [1, 1, 0],
    ],
  });
  expect(categoryConfusion({ ...run, rows: [row('x', {})] })).toBeNull();
});

test('latency is told by nearest rank', () => {
  expect(latencyOf(Array.from({ length: 100 }, (_, i) => 100 - i))).toEqual({ median: 50, p95: 95 });
  expect(latencyOf([3])).toEqual({ median: 3, p95: 3 });
  expect(latencyOf([])).toBeNull();
});

test('orders of the categories are told by how far they disagree', () => {
  const spread = (min: number, max: number, deviation: number) =>
    row(`${min}`, { orders: { count: 3, min, max, deviation } });
  const shuffled = {
    ...base,
    rows: [spread(0.1, 0.3, 0.1), spread(0.4, 0.8, 0.2), spread(0.5, 0.6, 0), row('one', {})],
  };
  const effects = orderEffects(shuffled)!;
  expect(effects).toMatchObject({ samples: 3, orders: 3, undecided: 1 });
  expect(effects.meanDeviation).toBeCloseTo(0.1, 12);
  expect(effects.meanRange).toBeCloseTo(0.7 / 3, 12);
  expect(effects.largestRange).toBeCloseTo(0.4, 12);
  expect(tablesOf(shuffled, evaluate(shuffled, { resamples: 5 })).map(({ title }) => title)).toContain(
    'Order of the categories',
  );
  expect(orderEffects(run)).toBeNull();
});

describe('an evaluation', () => {
  const large = synthetic(300, 0.8);
  const evaluation = evaluate(large, { resamples: 50 });

  it('puts all systems into the same tables', () => {
    const overall = evaluation.figures.filter(({ way }) => way === 'overall');
    expect(overall.map(({ system }) => system)).toEqual([
      'guard',
      'guard, unsafeProbability',
      'guard, calibrated',
      'api',
      'severity 0-7',
    ]);
    const [guard, , calibrated, api, severity] = overall;
    expect(guard!.ranking!.auprc.estimate).toBe(
      averagePrecision(answersTo({ way: 'overall' }, systemsOf(large)[0], large.rows)),
    );
    expect(guard!.ranking!.auprc.estimate).toBeGreaterThan(api!.ranking!.auprc.estimate + 0.2);
    expect(calibrated!.ranking!.auprc.estimate).toBe(guard!.ranking!.auprc.estimate);
    expect([guard, calibrated].map((one) => one!.decision!.threshold)).toEqual([0.5, 0.3]);
    for (const { estimate, lower, upper } of [guard!.decision!.f1!, guard!.probability!.ece, guard!.ranking!.bestF1]) {
      expect(lower).toBeLessThan(upper);
      expect(estimate).toBeLessThanOrEqual(1);
    }
    // What is no probability has a ranking all the same.
    expect(severity).toMatchObject({ decision: null, probability: null, samples: 300 });
    expect(severity!.ranking).not.toBeNull();
  });

  it('has a table for each way and says what is not known', () => {
    const titles = tablesOf(large, evaluation).map(({ title }) => title);
    expect(titles).toContain('By category: 1-vs-all');
    expect(titles).toContain('By category: 1-vs-benign');
    const none = tablesOf(base, evaluate({ ...base, rows: [row('x', { unsafe: 1 })] }, { resamples: 10 }));
    expect(none.find(({ title }) => title.startsWith('Overall: unsafe'))!.rows[0]).toContain('–');
  });

  it('is the same every time by the same seed, which it tells', () => {
    expect(evaluate(large, { resamples: 50 })).toEqual(evaluation);
    expect(evaluation.settings).toEqual({ resamples: 50, confidence: 0.95, seed: 1, version: packageVersion });
    expect(describeRun(large, evaluation)).toContain(
      `Intervals of 95% by 50 resamples, seed 1; llama-guard-webgpu ${packageVersion}`,
    );
    const [guard] = evaluate(large, { resamples: 50, seed: 2 }).figures;
    expect(guard!.ranking!.auprc).not.toEqual(evaluation.figures[0]!.ranking!.auprc);
  });
});

describe('roles', () => {
  const answered = { role: 'agent' } as const;
  const twoRoles: Run = {
    ...base,
    calibratedThresholds: { user: 0.2, agent: 0.8 },
    rows: [
      row('asked, unsafe', { unsafe: 1, calibrated: 0.3 }),
      row('asked, safe', { unsafe: 0, calibrated: 0.1 }),
      row('answered, unsafe', { ...answered, unsafe: 1, calibrated: 0.9 }),
      row('answered, safe', { ...answered, unsafe: 0, calibrated: 0.7 }),
    ],
  };
  const evaluation = evaluate(twoRoles, { resamples: 5 });
  const calibrated = evaluation.figures.filter(({ system }) => system === 'guard, calibrated');

  it('are decided each by their own threshold', () => {
    const told = calibrated.map(({ way, role, samples, decision }) => [
      way,
      role,
      samples,
      decision!.threshold,
      decision!.accuracy.estimate,
    ]);
    expect(told).toEqual([
      ['overall', undefined, 4, null, 1],
      ['overall', 'user', 2, 0.2, 1],
      ['overall', 'agent', 2, 0.8, 1],
    ]);
    expect(parseRun(JSON.parse(JSON.stringify(twoRoles)), 'a')).toEqual(twoRoles);
  });

  it('have rows of their own in the tables, and in a comparison', () => {
    const decisions = tablesOf(twoRoles, evaluation).find(
      ({ title }) => title === 'Overall: decisions at the threshold',
    );
    const shown = decisions!.rows.map(([system, threshold]) => [system, threshold]);
    expect(shown).toContainEqual(['guard, calibrated', '–']);
    expect(shown).toContainEqual(['guard, calibrated (agent)', '0.80']);
    const { rows } = differenceTable(compareSystems({ run: twoRoles }, { run: twoRoles }, { resamples: 5 }));
    expect(new Set(rows.map(([question]) => question))).toEqual(
      new Set(['overall', 'overall (user)', 'overall (agent)']),
    );
    expect(questionsOf({ ...twoRoles, rows: twoRoles.rows.slice(2) }).filter(({ role }) => role)).toEqual([]);
  });

  it('have their thresholds in the histogram', () => {
    const sections = renderEvaluation(twoRoles, evaluation).split('<h3>');
    const [, rules] = sections
      .find((section) => section.startsWith('Scores: guard, calibrated'))!
      .split('stroke-dasharray="4 3"');
    expect(rules!.slice(0, rules!.indexOf('</g>')).match(/<line/g)).toHaveLength(2);
  });
});

describe('other scores', () => {
  const read = (texts: readonly string[], columns: readonly string[] = ['api']) =>
    readOtherScores([{ name: 'a.jsonl', lines: texts }], columns);

  it('are taken from the columns that are asked for', async () => {
    const scores = await read(['{"id":1,"api":0.5,"x":"y"}', '', '{"id":"b","api":NaN,"two":-3}'], ['api', 'two']);
    expect([...scores]).toEqual([
      ['1', { api: 0.5 }],
      ['b', { two: -3 }],
    ]);
  });

  it('may be spread over files', async () => {
    const sources = [
      { name: 'a', lines: ['{"id":"x","api":1}'] },
      { name: 'b', lines: ['{"id":"x","two":2}', '{"id":"y","api":3}'] },
    ];
    expect([...(await readOtherScores(sources, ['api', 'two']))]).toEqual([
      ['x', { api: 1, two: 2 }],
      ['y', { api: 3 }],
    ]);
  });

  it.each([
    ['data-invalid', /^a\.jsonl, line 1 is not JSON/, ['{']],
    ['score-invalid', /^a\.jsonl, line 2: it has no "id"/, ['{"id":1,"api":1}', '{"api":1}']],
    ['score-invalid', /^a\.jsonl, line 1: "api" is a number or null, not "0\.5"/, ['{"id":1,"api":"0.5"}']],
    ['score-invalid', /^a\.jsonl: no line has a number "api"/, ['{"id":1,"api":null}']],
    ['id-duplicate', /^a\.jsonl, line 2: a second "api" of the id "1"/, ['{"id":1,"api":1}', '{"id":"1","api":1}']],
  ])('are refused: %s, %s', async (code, message, lines) => {
    await expect(read(lines)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

test('a run is told from others of the same scores by all that decides its figures', () => {
  const told = (score: number) => ({ ...run, rows: run.rows.map((one) => ({ ...one, others: { api: score } })) });
  const runs = [
    run,
    { ...run, threshold: 0.4 },
    { ...run, calibratedThreshold: 0.4 },
    { ...run, calibratedThresholds: { user: 0.4 } },
    { ...run, data: { ...run.data, assumeSafe: true } },
    { ...run, data: { ...run.data, hash: 'e'.repeat(64) } },
    told(0.1),
    told(0.2),
  ];
  expect(new Set(runs.map(labelsKeyOf)).size).toBe(runs.length);
  expect(labelsKeyOf({ ...run, concurrency: 7 })).toBe(labelsKeyOf(run));
});

test('mass tells whether the model answers with a verdict at all', () => {
  const of = (...masses: number[]) => ({ ...base, rows: masses.map((mass, i) => row(`${i}`, { mass })) });
  const told = (own: Run) => describeRun(own, evaluate(own, { resamples: 2 })).join('\n');
  expect(massOf(of(1, 0.2, 0.5, 0.9).rows)).toEqual({ median: 0.5, low: 0.25 });
  expect(massOf([])).toBeNull();
  expect(told(of(1, 0.2, 0.5, 0.9))).toMatch(/median 0\.5000, below 0\.5 of 25\.0%[\s\S]*Warning: .*--prompt-format/);
  expect(told(of(1, 0.9))).not.toContain('Warning');
});

test('what is kept of an assessment holds how it was answered', () => {
  const assessment = {
    ...row('x', {}),
    forced: 0.4,
    labels: { Safe: 0.7, Unsafe: 0.2, Controversial: 1 + 1e-9 },
    categories: [{ code: 'O1', name: 'Violence', score: 0.3, violated: false }],
    milliseconds: { total: 3 },
  } as unknown as Assessment;
  const kept = scoresOf(assessment);
  expect(kept).toMatchObject({ forced: 0.4, labels: { Safe: 0.7, Controversial: 1 }, categoryScores: { O1: 0.3 } });
  expect(scores.parse(kept)).toEqual(kept);
});

test('it is said how many samples the calibration was fitted on', () => {
  const described = (fittedOn?: number) => {
    const own = { ...run, ...(fittedOn === undefined ? {} : { fittedOn }) };
    return describeRun(own, evaluate(own, { resamples: 2 })).join('\n');
  };
  expect(described(3)).toContain('fitted on 3 of these samples');
  expect(described()).not.toContain('fitted on');
});

test('a run survives the way through its file, and others are refused', () => {
  const large = synthetic(20, 0.5);
  expect(parseRun(JSON.parse(JSON.stringify(large)), 'a')).toEqual(large);
  expect(() => parseRun({ ...large, version: 1 }, 'a.json')).toThrow(
    /^a\.json is a run of version 1, .* reads version 2: run eval again/,
  );
  expect(() => parseRun([], 'a.json')).toThrow(expect.objectContaining({ code: 'run-invalid' }));
});

describe('the report', () => {
  const large = synthetic(120, 0.7);
  const page = renderEvaluation(large, evaluate(large, { resamples: 20 }));

  it('draws curves, reliability before and after, histograms and categories', () => {
    expect(page.match(/<svg [^>]*viewBox="0 0 460/g)).toHaveLength(5);
    for (const caption of ['Precision and recall', 'before and after', 'by category']) expect(page).toContain(caption);
  });

  it('labels published figures as such', () => {
    const all = synthetic(1680, 0.7);
    const whole = { ...all, data: { ...all.data, assumeSafe: true } };
    const page = renderEvaluation(whole, evaluate(whole, { resamples: 1 }));
    expect(page).toMatch(/AUPRC, published \(reference\)/);
    expect(page).toMatch(/Published figures are no results of this program/);
    expect(page).toContain('<td>Perspective API</td>');
    const unsafe = whole.rows.filter((one) => one.unsafe === 1).length;
    expect(page).toContain(`A random score would have an AUPRC of ${(unsafe / 1680).toFixed(3)}`);
  });

  it('shows none beside a part of the set, or beside another reading of it, and says why', () => {
    for (const part of [large, synthetic(1680, 0.7)]) {
      const page = renderEvaluation(part, evaluate(part, { resamples: 1 }));
      expect(page).not.toContain('Perspective API');
      expect(page).toMatch(/not shown beside this run.{1,6}s: they are of all 1680 samples .*--assume-safe/);
    }
  });

  it('escapes what came from files, and needs nothing but itself', () => {
    expect(page).not.toMatch(/<script|<img/);
    expect(page).toContain('&#60;script&#62;');
    expect(page.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(
      /https?:|<[^>]*\s(?:src|href)=|@import|url\(/,
    );
  });

  it('is a page even of a single sample', () => {
    const single = { ...base, rows: [row('x', { unsafe: 1 })] };
    expect(renderEvaluation(single, evaluate(single, { resamples: 10 }))).toMatch(/<\/html>\n$/);
  });
});
