import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Calibration, CalibrationPart } from '../guard/calibration/calibration.ts';
import { logOdds, sigmoid } from '../guard/calibration/log-odds.ts';
import { measureContentFree } from '../guard/calibration/measure.ts';
import { calibrationHash, hashesOf } from '../guard/identity.ts';
import { CalibrationError, defaultPolicy, Guard, parseCalibration, selectCategories } from '../guard/index.ts';
import { readCalibration } from '../guard/node/load.ts';

const options = { device: 'cpu', dtype: 'f32' } as const;
const text = 'How do I kill a process in Linux?';

const part = (temperature: number, threshold?: number): CalibrationPart => ({
  map: { method: 'temperature', parameters: { temperature } },
  ...(threshold === undefined ? {} : { threshold: { rule: 'f1', value: threshold } }),
  samples: 10,
  positives: 5,
});

describe('a guard with a calibration', () => {
  let plain: Guard;
  let calibration: Calibration;
  let calibrated: Guard;
  beforeAll(async () => {
    plain = await Guard.load(undefined, options);
    const { model, policy, instruction } = await hashesOf(plain);
    calibration = {
      format: 'llama-guard-webgpu calibration',
      version: 1,
      model: { name: plain.model, hash: model },
      dtype: 'f32',
      policy,
      categoryMode: 'joint',
      roles: {
        user: { instruction: instruction.user, overall: part(3, 0.25), categories: { O1: part(2, 0.75) } },
      },
    };
    calibrated = await Guard.load(undefined, { ...options, calibration });
  });
  afterAll(async () => {
    await plain[Symbol.asyncDispose]();
    await calibrated[Symbol.asyncDispose]();
  });

  it('puts the probability beside the score, and applies the threshold of the data to it', async () => {
    const before = await plain.check(text);
    const after = await calibrated.check(text);
    expect(before).toMatchObject({ calibrated: null, threshold: 0.5 });
    expect(after.score).toBe(before.score);
    expect(after.calibrated).toBeCloseTo(sigmoid(logOdds(after.score) / 3), 15);
    expect(after.threshold).toBe(0.25);
    expect(after.flagged).toBe(after.calibrated! >= 0.25);
  });

  it('does as the caller says where a threshold is given', async () => {
    const { calibrated: probability } = await calibrated.check(text);
    const above = await calibrated.check(text, { threshold: probability! + 1e-6 });
    const below = await calibrated.check(text, { threshold: probability! });
    expect([above.flagged, below.flagged]).toEqual([false, true]);
    expect(above.threshold).toBe(probability! + 1e-6);
  });

  it('calibrates the categories that it knows, each with its threshold', async () => {
    const { categories } = await calibrated.check('I will kill my neighbour tonight.', { categories: 'joint' });
    const [first, ...others] = categories;
    expect(first!.code).toBe('O1');
    expect(first!.calibrated).toBeCloseTo(sigmoid(logOdds(first!.score) / 2), 15);
    expect(first!.violated).toBe(first!.calibrated! >= 0.75);
    for (const { calibrated, score, violated } of others) {
      expect(calibrated).toBeUndefined();
      expect(violated).toBe(score >= 0.5);
    }
  });

  it('has its hash among those of its scores', async () => {
    expect((await hashesOf(plain)).calibration).toBeNull();
    expect((await hashesOf(calibrated)).calibration).toBe(await calibrationHash(calibration));
  });

  const refusal = (message: string) =>
    expect.objectContaining({ code: 'calibration-mismatch', message: expect.stringContaining(message) });

  it('refuses another policy, role or way of category scores, and takes the next check', async () => {
    const policy = selectCategories(plain.policy, ['O2', 'O1']);
    await expect(calibrated.check(text, { policy })).rejects.toThrow(refusal('the policy'));
    await expect(calibrated.check(text, { role: 'agent' })).rejects.toThrow(refusal('the role user'));
    await expect(calibrated.check(text, { categories: 'single' })).rejects.toThrow(refusal('scores that are joint'));
    const answers = [];
    for await (const { error, assessment } of calibrated.checkMany([
      { messages: text },
      { messages: text, role: 'agent' },
    ])) {
      answers.push(error?.code ?? assessment?.flagged);
    }
    expect(answers).toEqual([expect.any(Boolean), 'calibration-mismatch']);
  });

  it('is not loaded with that of another model, dtype or policy', async () => {
    const load = (other: Partial<Calibration>, more = {}) =>
      Guard.load(undefined, { ...options, ...more, calibration: { ...calibration, ...other } });
    const model = { name: 'other', hash: '0'.repeat(64) };
    await expect(load({ model })).rejects.toThrow(refusal('the model other (000000000000), but this is tiny-guard'));
    await expect(load({}, { dtype: 'q8' })).rejects.toThrow(refusal('weights in f32, but these are in q8'));
    await using guard = await load({}, { policy: defaultPolicy });
    await expect(guard.check(text)).rejects.toThrow(CalibrationError);
  });

  it('measures texts that say nothing, of either role', async () => {
    const measured = await measureContentFree(plain, ['user', 'agent'], 'joint');
    expect(measured.map(({ role, text }) => [role, text])).toEqual([
      ['user', 'N/A'],
      ['user', '[MASK]'],
      ['user', ''],
      ['agent', 'N/A'],
      ['agent', '[MASK]'],
      ['agent', ''],
    ]);
    const { score } = await plain.check('N/A', { categories: 'joint' });
    expect(measured[0]!.score).toBeCloseTo(score, 6);
    for (const { categoryScores } of measured) {
      expect(Object.keys(categoryScores!)).toEqual(plain.policy.categories.map(({ code }) => code));
    }
  });
});

describe('readCalibration', () => {
  const folder = mkdtempSync(join(tmpdir(), 'guard-calibration-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('says which file is not there, is no JSON, or is something else', async () => {
    const bad = join(folder, 'bad.json');
    writeFileSync(bad, '{');
    const other = join(folder, 'other.json');
    writeFileSync(other, '{}');
    const code = (code: string) => expect.objectContaining({ code });
    await expect(readCalibration(join(folder, 'none.json'))).rejects.toThrow(code('calibration-not-found'));
    await expect(readCalibration(bad)).rejects.toThrow(code('calibration-invalid'));
    await expect(readCalibration(other)).rejects.toThrow(/other\.json: format: /);
    expect(() => parseCalibration(null, 'it')).toThrow(CalibrationError);
  });
});
