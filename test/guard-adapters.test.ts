/** A guard with adapters: merged, or kept apart and chosen by each check. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openModelFolder } from '../engine/node/index.ts';
import type { Calibration } from '../guard/calibration/calibration.ts';
import { evaluateFile } from '../guard/evaluation/node/evaluate-file.ts';
import { type CheckOptions, type Conversation, Guard, hashesOf } from '../guard/index.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { projections, writeAdapter } from './support/adapter-files.ts';
import { runCli } from './support/cli.ts';

const knife = 'I will kill my neighbour with a knife tonight.';
const names = [undefined, 'defensive', 'permissive'] as const;

let root: string;
let folders: { defensive: string; permissive: string };
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'guard-adapters-'));
  folders = { defensive: join(root, 'defensive'), permissive: join(root, 'permissive') };
  await using model = await openModelFolder(embeddedModel);
  await writeAdapter(folders.defensive, model.config, { targets: projections, alpha: 48, seed: 1 });
  await writeAdapter(folders.permissive, model.config, { targets: ['q_proj', 'v_proj'], alpha: 48, rank: 8, seed: 2 });
});
afterAll(() => rm(root, { recursive: true }));

/** On the processor; other devices are what the engine's tests are about. */
describe('checks', () => {
  const options = { device: 'cpu', dtype: 'f32', contextLength: 512 } as const;
  let guard: Guard;
  let plain: Guard;
  let merged: Record<'defensive' | 'permissive', Guard>;
  beforeAll(async () => {
    guard = await Guard.load(undefined, { ...options, adapters: folders });
    plain = await Guard.load(undefined, options);
    merged = {
      defensive: await Guard.load(undefined, { ...options, mergedAdapter: folders.defensive }),
      permissive: await Guard.load(undefined, { ...options, mergedAdapter: folders.permissive }),
    };
  });
  afterAll(async () => {
    for (const each of [guard, plain, merged.defensive, merged.permissive]) await each[Symbol.asyncDispose]();
  });
  const alone = (adapter: (typeof names)[number]) => (adapter ? merged[adapter] : plain);

  const long = Array.from({ length: 6 }, (_, i) => ({
    role: i % 2 === 0 ? ('user' as const) : ('assistant' as const),
    content: `Tell me about the number ${i} and about ${'knives and kitchens '.repeat(12)}.`,
  }));
  const asked: readonly [what: string, conversation: Conversation, options: CheckOptions][] = [
    ['with joint categories', knife, { categories: 'joint' }],
    ['with categories one by one', knife, { categories: 'single' }],
    ['under several orders', knife, { shuffleCategories: 3 }],
    ['in disguise', 'I will k\u0456ll my neighbour with a kn\u0456fe tonight.', {}],
    ['in windows', long, {}],
  ];

  it.each(asked)(
    'are what a guard with a merged adapter answers, or one without any, side by side: %s',
    async (_, conversation, of) => {
      const together = await Promise.all(
        names.map((adapter) => guard.check(conversation, { ...of, ...(adapter ? { adapter } : {}) })),
      );
      for (const [i, adapter] of names.entries()) {
        const expected = await alone(adapter).check(conversation, of);
        const own = together[i]!;
        expect(own.adapter).toBe(adapter);
        expect(own.windows).toBe(expected.windows);
        if (conversation === long) expect(own.windows).toBeGreaterThan(2);
        expect(own.score).toBeCloseTo(expected.score, 4);
        expect(own.unsafeProbability).toBeCloseTo(expected.unsafeProbability, 4);
        for (const [k, category] of own.categories.entries()) {
          expect(category.score).toBeCloseTo(expected.categories[k]!.score, 3);
        }
      }
      const scores = together.map(({ score }) => score);
      expect(Math.max(...scores) - Math.min(...scores)).toBeGreaterThan(0.01);
    },
  );

  it('take nothing from what was read through another adapter', async () => {
    const fresh = { ...guard.policy, categories: guard.policy.categories.toReversed() };
    for (const adapter of names) {
      const of = { policy: fresh, ...(adapter ? { adapter } : {}) };
      expect((await guard.check('Hello', of)).tokens.cached).toBeLessThan(100);
      expect((await guard.check('Good evening', of)).tokens.cached).toBeGreaterThan(200);
    }
  });

  it('go through the adapter where the model writes, and in streams', async () => {
    for (const adapter of ['defensive', 'permissive'] as const) {
      expect(await guard.write(knife, { adapter })).toEqual(await merged[adapter].write(knife));
      const stream = guard.stream([{ role: 'user', content: 'What now?' }], { adapter });
      await stream.push('I will kill ');
      const { score } = await stream.push('my neighbour. ').then(async (own) => own ?? (await stream.end()));
      const said = [
        { role: 'user' as const, content: 'What now?' },
        { role: 'assistant' as const, content: 'I will kill my neighbour. ' },
      ];
      expect(score).toBeCloseTo((await merged[adapter].check(said)).score, 4);
    }
  });

  it('create nothing once warmed up, and give all memory back', async () => {
    const own = await Guard.load(undefined, { ...options, adapters: folders });
    const round = () =>
      Promise.all(names.map((adapter) => own.check(knife, { categories: 'joint', ...(adapter ? { adapter } : {}) })));
    await round();
    await round();
    const { buffersCreated, pipelinesCreated } = own.llama.memory;
    await round();
    expect(own.llama.memory).toMatchObject({ buffersCreated, pipelinesCreated });
    await own[Symbol.asyncDispose]();
    expect(own.llama.memory.liveBytes).toBe(0);
  });
});

describe('a guard', () => {
  const options = { device: 'cpu', dtype: 'f32' } as const;

  it('has its adapters by their names, and no others', async () => {
    await using guard = await Guard.load(undefined, { ...options, adapters: folders });
    await using plain = await Guard.load(undefined, options);
    expect(guard.adapters).toEqual(['defensive', 'permissive']);
    for (const adapter of ['Defensive', '', 'constructor']) {
      const error = { code: 'option-invalid', message: expect.stringContaining('defensive, permissive') };
      await expect(guard.check(knife, { adapter })).rejects.toMatchObject(error);
    }
    await expect(plain.check(knife, { adapter: 'defensive' })).rejects.toThrow(/loaded without any/);
  });

  it('is told apart by its adapter, merged or not', async () => {
    await using guard = await Guard.load(undefined, { ...options, adapters: folders });
    await using merged = await Guard.load(undefined, { ...options, mergedAdapter: folders.defensive });
    await using plain = await Guard.load(undefined, options);
    const of = async (adapter?: string) => (await hashesOf(guard, adapter)).model;
    const own = await Promise.all(names.map(of));
    expect(new Set(own).size).toBe(3);
    expect(own.slice(0, 2)).toEqual([plain.modelHash, merged.modelHash]);
    expect(merged.model).toBe('tiny-guard+defensive');
    // The scale is not in the tensors.
    await using model = await openModelFolder(embeddedModel);
    await writeAdapter(join(root, 'louder'), model.config, { targets: projections, alpha: 49, seed: 1 });
    await using louder = await Guard.load(undefined, { ...options, mergedAdapter: join(root, 'louder') });
    expect(louder.modelHash).not.toBe(merged.modelHash);
  });

  it('is calibrated for one of them, and refuses to be for another', async () => {
    await using merged = await Guard.load(undefined, { ...options, mergedAdapter: folders.defensive });
    const { model, policy, instruction } = await hashesOf(merged);
    const calibration: Calibration = {
      format: 'llama-guard-webgpu calibration',
      version: 1,
      model: { name: merged.model, hash: model },
      dtype: 'f32',
      policy,
      categoryMode: 'joint',
      roles: {
        user: {
          instruction: instruction.user,
          overall: { map: { method: 'temperature', parameters: { temperature: 3 } }, samples: 10, positives: 5 },
          categories: {},
        },
      },
    };
    await using guard = await Guard.load(undefined, { ...options, adapters: folders, calibration });
    const calibrated = await guard.check(knife, { adapter: 'defensive' });
    expect(calibrated.calibrated).not.toBeNull();
    const mismatch = { code: 'calibration-mismatch', message: expect.stringContaining('tiny-guard+defensive') };
    await expect(guard.check(knife)).rejects.toMatchObject(mismatch);
    await expect(guard.check(knife, { adapter: 'permissive' })).rejects.toMatchObject(mismatch);
    await expect(Guard.load(undefined, { ...options, calibration })).rejects.toMatchObject(mismatch);
    const { permissive } = folders;
    await expect(Guard.load(undefined, { ...options, calibration, adapters: { permissive } })).rejects.toMatchObject(
      mismatch,
    );
  });

  it('is evaluated with one of them as with a merged one, under its own identity', async () => {
    const data = join(root, 'data.jsonl');
    const lines = [
      { messages: [{ role: 'user', content: knife }], unsafe: 1 },
      { messages: [{ role: 'user', content: 'Hello' }], unsafe: 0 },
    ];
    await writeFile(data, lines.map((line) => JSON.stringify(line)).join('\n'));
    await using guard = await Guard.load(undefined, { ...options, adapters: folders });
    await using merged = await Guard.load(undefined, { ...options, mergedAdapter: folders.defensive });
    const run = await evaluateFile(guard, data, { folder: join(root, 'apart'), adapter: 'defensive' });
    const other = await evaluateFile(merged, data, { folder: join(root, 'merged') });
    const base = await evaluateFile(guard, data, { folder: join(root, 'apart') });
    expect(run.identity).toEqual(other.identity);
    expect(base.identity.hashes.model).toBe(guard.modelHash);
    for (const [i, { score }] of run.rows.entries()) expect(score).toBeCloseTo(other.rows[i]!.score, 4);
  });
});

describe('llama-guard --adapter', () => {
  it('judges with the adapter merged', async () => {
    const { code, stdout } = await runCli([
      'check',
      knife,
      '--json',
      '--verbose',
      '--device',
      'cpu',
      '--adapter',
      folders.defensive,
    ]);
    expect(code).toBe(0);
    const { model, score, hashes } = JSON.parse(stdout);
    await using merged = await Guard.load(undefined, { device: 'cpu', mergedAdapter: folders.defensive });
    expect(model).toBe('tiny-guard+defensive');
    expect(hashes.model).toBe(merged.modelHash);
    expect(score).toBeCloseTo((await merged.check(knife)).score, 5);
  });

  it('is inspected, and refused with the file and the reason', async () => {
    const { code, stdout } = await runCli(['inspect', '--json', '--device', 'cpu', '--adapter', folders.permissive]);
    expect(code).toBe(0);
    const { adapter } = JSON.parse(stdout);
    expect(adapter).toMatchObject({
      ranks: [8],
      targets: ['q_proj', 'v_proj'],
      layers: 6,
      stored: ['F32'],
      base: 'a-model',
    });
    expect(adapter.parameters).toBe(6 * 2 * 8 * (192 + 192));
    expect(adapter.apart).toBeGreaterThan(2 * adapter.parameters);
    const refused = await runCli(['check', knife, '--device', 'cpu', '--adapter', embeddedModel]);
    expect(refused.code).toBe(3);
    expect(refused.stderr).toMatch(/model-not-found: .*adapter_config.json/);
  });
});
