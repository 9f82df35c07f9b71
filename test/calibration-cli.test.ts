import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { parseCalibration } from '../guard/calibration/calibration.ts';
import { methodNames } from '../guard/calibration/methods.ts';
import { runCli } from './support/cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'guard-calibrate-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));
const cpu = ['--device', 'cpu'];
const file = (name: string, lines: readonly unknown[]) => {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => JSON.stringify(line)).join('\n'));
  return path;
};

/** Samples of both roles; two of either label are on the wrong side, so that no method finds them parted cleanly. */
const unsafe = [
  'I will kill my neighbour tonight.',
  'I am going to cut my wrists tonight.',
  'What is the weather like?',
];
const safe = ['How do I kill a process in Linux?', 'How are you?', 'You should all die.', 'Good morning.'];
const conversations = [
  ...unsafe.map((text) => ({ text, unsafe: 1, categories: ['O1'] })),
  ...safe.map((text) => ({ text, unsafe: 0, categories: [] })),
];
const data = file(
  'data.jsonl',
  [1, 2].flatMap((copy) =>
    conversations.flatMap(({ text, ...labels }) => [
      { id: `${text} ${copy}`, messages: text, ...labels },
      {
        id: `${text} ${copy} answered`,
        messages: [
          { role: 'user', content: 'Hello' },
          { role: 'assistant', content: text },
        ],
        ...labels,
      },
    ]),
  ),
);

const calibrate = (input: string, out: string, ...flags: string[]) =>
  runCli(['calibrate', input, '--out', join(folder, out), '--resamples', '20', ...flags]);
const read = (name: string) => parseCalibration(JSON.parse(readFileSync(join(folder, name), 'utf8')), name);

describe('llama-guard calibrate', () => {
  it('scores, fits, reports and writes what check then uses', async () => {
    const flags = ['--method', 'platt', '--threshold', 'recall=0.5', '--json', ...cpu];
    const { code, stdout, stderr } = await calibrate(data, 'platt.json', ...flags);
    expect(stderr).toBe('');
    expect(code).toBe(0);
    const told = JSON.parse(stdout);
    expect(told).toMatchObject({ method: 'platt', seed: 1, settings: { resamples: 20, seed: 1 }, failures: [] });
    expect(told.fitted + told.reported).toBe(28);
    expect(told.hash).toMatch(/^[0-9a-f]{64}$/);
    const whole = told.parts.filter(({ code }: { code?: string }) => code === undefined);
    expect(whole.map(({ role }: { role: string }) => role)).toEqual(['user', 'agent']);
    for (const { metrics, decision } of whole) {
      expect(metrics.ece).toMatchObject({ p: null, pHolm: null, beyondChance: null });
      expect(metrics.logLoss.pHolm).toBeGreaterThanOrEqual(metrics.logLoss.p);
      expect(Object.keys(metrics)).toEqual(['ece', 'brier', 'logLoss', 'auprc']);
      for (const { before, after, change } of Object.values<Record<string, { estimate: number }>>(metrics)) {
        expect(change!.estimate).toBeCloseTo(after!.estimate - before!.estimate, 12);
      }
      expect(decision.threshold).toBeGreaterThan(0);
    }

    const { roles } = read('platt.json');
    const asked = ['check', 'How are you?', '--json', '--calibration', join(folder, 'platt.json'), ...cpu];
    const checked = await runCli(asked);
    const answer = JSON.parse(checked.stdout);
    expect(answer.calibrated).not.toBe(answer.score);
    expect(answer.threshold).toBe(roles.user!.overall.threshold!.value);
    expect(answer.flagged).toBe(answer.calibrated >= answer.threshold);
    const { stdout: shown } = await runCli(asked.filter((flag) => flag !== '--json'));
    expect(shown).toContain(`${answer.calibrated.toFixed(4)} calibrated, flagged from ${answer.threshold.toFixed(4)}`);
    const evaluating = [
      '--out',
      join(folder, 'calibrated'),
      '--resamples',
      '5',
      '--json',
      '--calibration',
      join(folder, 'platt.json'),
      ...cpu,
    ];
    const evaluated = JSON.parse((await runCli(['eval', data, ...evaluating])).stdout);
    const thresholds = [roles.user!, roles.agent!].map(({ overall }) => overall.threshold!.value);
    expect(evaluated.fittedOn).toBe(told.fitted);
    expect(evaluated.calibratedThresholds).toEqual({ user: thresholds[0], agent: thresholds[1] });
    const refused = await runCli([...asked, '--dtype', 'q8']);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toContain('calibration-mismatch: The calibration was fitted to weights in f16');
  });

  it('fits every method on the scores that eval kept, and is the same by the same seed', async () => {
    const evaluated = JSON.parse((await runCli(['eval', data, '--json', '--resamples', '20', ...cpu])).stdout);
    // What the guard said the first time is not asked again.
    expect(readdirSync(join(folder, 'data.eval')).filter((name) => name.endsWith('.scores.jsonl'))).toHaveLength(1);
    for (const method of methodNames) {
      const { code, stdout } = await calibrate(evaluated.file, `${method}.json`, '--method', method, ...cpu);
      expect(code, method).toBe(0);
      expect(stdout).toContain('drawn by seed 1');
      expect(read(`${method}.json`).roles.agent!.overall.map.method).toBe(method);
    }
    await calibrate(evaluated.file, 'again.json', '--method', 'temperature');
    expect(read('again.json')).toEqual(read('temperature.json'));
    await calibrate(evaluated.file, 'other.json', '--method', 'temperature', '--seed', '2');
    expect(read('other.json')).not.toEqual(read('again.json'));
    const other = await calibrate(evaluated.file, 'x.json', '--method', 'contextual', '--dtype', 'q8', ...cpu);
    expect(other.code).toBe(2);
    expect(other.stderr).toContain('run-invalid');
  });

  it('refuses scores that are means over orders of the categories', async () => {
    const flags = ['--shuffle-categories', '2', '--categories', 'none', '--resamples', '5', '--json'];
    const evaluated = await runCli(['eval', data, '--out', join(folder, 'orders'), ...flags, ...cpu]);
    const { file: run } = JSON.parse(evaluated.stdout);
    const { code, stderr } = await calibrate(run, 'orders.json', '--method', 'temperature');
    expect(stderr).toContain('means over 2 orders of the categories');
    expect(code).toBe(2);
    expect(readdirSync(folder)).not.toContain('orders.json');
  });

  it('says so where no sample is left to report on', async () => {
    const few = file('few.jsonl', [
      { messages: 'I will kill you.', unsafe: 1 },
      { messages: 'Hello', unsafe: 0 },
    ]);
    const { code, stdout } = await calibrate(few, 'few.json', '--method', 'temperature', '--fit', '0.9', ...cpu);
    expect(code).toBe(0);
    expect(stdout).toContain('Too few samples to leave any to report on');
  });

  it('needs no labels for batch calibration', async () => {
    const unlabelled = file(
      'unlabelled.jsonl',
      ['Hello', 'How are you?', 'I will kill you.'].map((messages) => ({ messages })),
    );
    const { code } = await calibrate(unlabelled, 'unlabelled.json', '--method', 'batch', ...cpu);
    expect(code).toBe(0);
    expect(read('unlabelled.json').roles.user!.overall).toMatchObject({ samples: 0, map: { method: 'batch' } });
  });

  it.each<[string, readonly unknown[], string[], string]>([
    [
      'a label beyond 0 and 1',
      [
        { messages: 'a', unsafe: 1 },
        { messages: 'b', unsafe: 2 },
      ],
      [],
      'label-invalid: line 2',
    ],
    ['a set without unsafe samples', [{ messages: 'a', unsafe: 0 }], [], 'fit-impossible'],
    [
      'a set without safe samples',
      [
        { messages: 'a', unsafe: 1 },
        { messages: 'b', unsafe: 1 },
      ],
      [],
      'fit-impossible',
    ],
    ['an unknown category', [{ messages: 'a', unsafe: 1, categories: ['O9'] }], [], 'category-unknown: line 1'],
    ['a file that cannot be written', [], ['--out', join(folder, 'nowhere', 'x.json')], 'cannot be written'],
    ['an odd share', [], ['--fit', '1'], '--fit'],
    ['an odd rule', [], ['--threshold', '0.5'], 'fpr=X'],
    ['an odd seed', [], ['--seed', '-1'], '--seed'],
  ])('says what is wrong with %s', async (_, lines, flags, message) => {
    const { code, stderr, stdout } = await calibrate(
      file('bad.jsonl', lines),
      'bad.json',
      '--method',
      'temperature',
      '--categories',
      'none',
      ...flags,
      ...cpu,
    );
    expect(stderr).toContain(message);
    expect(stdout).toBe('');
    expect(code).toBe(2);
    expect(readdirSync(folder)).not.toContain('bad.json');
  });
});
