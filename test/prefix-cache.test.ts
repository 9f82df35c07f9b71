import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { DeviceError, type Llama, PrefixCache, type PromptReading, Session } from '../engine/index.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';
import { largestDifference } from './support/tiny-guard.ts';

const config = smallConfig({ maxPositionEmbeddings: 64 });

async function load(cacheTokens: number, model = config) {
  const { llama, backend } = await loadRandomModel(model, 'cpu', { cacheTokens, passTokens: 32 });
  return { llama, backend, prefixes: new PrefixCache(llama) };
}

async function alone(llama: Llama, prompt: readonly number[]): Promise<Float32Array> {
  using session = new Session(llama);
  return await session.prefill(prompt);
}

const common = (a: readonly number[], b: readonly number[]) => {
  const parting = a.findIndex((id, i) => id !== b[i]);
  return parting === -1 ? a.length : parting;
};

/** A policy of `count` tokens, and a prompt under it. */
const policy = (count: number, seed: number) => Array.from({ length: count }, (_, i) => (seed + i * 7) % 67);
const prompt = (fixed: readonly number[], seed: number, count = 8) => [...fixed, ...policy(count, 30 + seed)];

/** Few tokens, so that prompts often begin alike. */
const prompts = fc.array(fc.array(fc.nat(2), { minLength: 1, maxLength: 12 }), { minLength: 1, maxLength: 12 });

describe('the cache of prompts', () => {
  it.each([
    ['', config],
    [' of a model with windows', smallConfig({ maxPositionEmbeddings: 64, slidingWindows: [3, 5] })],
  ])('computes what no earlier prompt%s begins with, and nothing else', async (_, model) => {
    await fc.assert(
      fc.asyncProperty(prompts, async (list) => {
        const { llama, prefixes } = await load(400, model);
        await using _llama = llama;
        const expected = await Promise.all(list.map((ids) => alone(llama, ids)));
        for (const [i, ids] of list.entries()) {
          using reading = await prefixes.logits(ids);
          const known = Math.max(
            0,
            ...list.slice(0, i).map((earlier) => common(earlier.slice(0, -1), ids.slice(0, -1))),
          );
          expect(reading.cached).toBe(known);
          expect(reading.context.length).toBe(ids.length);
          expect(largestDifference(reading.rows[0]!, expected[i]!)).toBeLessThan(1e-4);
        }
        prefixes[Symbol.dispose]();
        expect(llama.freeCacheTokens).toBe(400);
      }),
      { numRuns: model === config ? 40 : 15 },
    );
  });

  it('answers all that are asked side by side, however little room there is, and keeps to it', async () => {
    await fc.assert(
      fc.asyncProperty(prompts, fc.integer({ min: 16, max: 60 }), async (list, room) => {
        const { llama, prefixes } = await load(room);
        await using _ = llama;
        const expected: Float32Array[] = [];
        for (const ids of list) expected.push(await alone(llama, ids));
        const branch = async (ids: readonly number[], i: number) => {
          using reading = await prefixes.logits(ids, { headroom: 4 });
          expect(largestDifference(reading.rows[0]!, expected[i]!)).toBeLessThan(1e-4);
          using fork = reading.context.fork();
          await llama.prefill([{ context: fork, ids: [1, 2, 0, 1] }]);
        };
        await Promise.all(list.map(branch));
        prefixes[Symbol.dispose]();
        expect(llama.freeCacheTokens).toBe(room);
      }),
      { numRuns: 60 },
    );
  });

  it('computes a policy once for checks that come together', async () => {
    const { llama, prefixes } = await load(300);
    await using _ = llama;
    const fixed = policy(40, 0);
    const readings = await Promise.all([0, 1, 2, 3].map((seed) => prefixes.logits(prompt(fixed, seed))));
    expect(readings.map(({ cached }) => cached)).toEqual([0, 40, 40, 40]);
    for (const reading of readings) reading[Symbol.dispose]();
  });

  it('computes only the new turn of a conversation that goes on', async () => {
    const { llama, prefixes } = await load(300);
    await using _ = llama;
    const closing = [60, 61, 62];
    let conversation = policy(20, 0);
    for (let turn = 0; turn < 4; turn++) {
      using reading = await prefixes.logits([...conversation, ...closing]);
      expect(reading.cached).toBe(turn === 0 ? 0 : conversation.length - 5);
      conversation = [...conversation, ...policy(5, 40 + turn)];
    }
  });

  it('gives up conversations that were seen once before policies, and the end of a prompt before its beginning', async () => {
    const { llama, prefixes } = await load(150);
    await using _ = llama;
    const [busy, rare] = [policy(30, 0), policy(30, 11)];
    const cachedOf = async (ids: readonly number[]) => {
      using reading = await prefixes.logits(ids);
      return reading.cached;
    };
    for (const seed of [0, 1, 2]) await cachedOf(prompt(rare, seed));
    for (let seed = 0; seed < 30; seed++) await cachedOf(prompt(busy, seed));
    expect(await cachedOf(prompt(rare, 33))).toBe(30);
  });

  it('yields to whoever needs room, but not what is being read', async () => {
    const { llama, prefixes } = await load(100);
    await using _ = llama;
    for (let seed = 0; seed < 10; seed++) (await prefixes.logits(prompt([], seed, 20)))[Symbol.dispose]();
    expect(llama.freeCacheTokens).toBeLessThan(20);
    using open = await prefixes.logits(policy(50, 1));
    using session = new Session(llama);
    await session.prefill(policy(50, 2));
    await expect(alone(llama, [1])).rejects.toMatchObject({ code: 'cache-full' });
    expect(open.context.lost).toBe(false);
    open[Symbol.dispose]();
    await alone(llama, policy(50, 3));
  });

  it('serves those that wait in their order, and lets them give up', async () => {
    const { llama, prefixes } = await load(100);
    await using _ = llama;
    const abort = new AbortController();
    const done: number[] = [];
    const ask = async (seed: number, signal?: AbortSignal) => {
      using _reading: PromptReading = await prefixes.logits(policy(40, seed), { headroom: 20, signal });
      done.push(seed);
    };
    const all = [ask(1), ask(2), ask(3, abort.signal), ask(4)];
    abort.abort(new Error('enough'));
    await expect(all[2]).rejects.toThrow('enough');
    await Promise.all([all[0], all[1], all[3]]);
    expect(done).toEqual([1, 2, 4]);
    await expect(ask(5, AbortSignal.abort(new Error('at once')))).rejects.toThrow('at once');
  });

  it('refuses what cannot fit, and forgets what the device failed to compute', async () => {
    const { llama, backend, prefixes } = await load(60);
    await using _ = llama;
    await expect(prefixes.logits(policy(40, 1), { headroom: 21 })).rejects.toMatchObject({ code: 'cache-full' });
    await expect(prefixes.logits([])).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(prefixes.logits([67, 1])).rejects.toMatchObject({ code: 'token-out-of-range' });
    vi.spyOn(backend, 'replay').mockImplementationOnce(() => {
      throw new DeviceError('device-failure', 'The device is tired.');
    });
    await expect(prefixes.logits(policy(40, 1))).rejects.toMatchObject({ code: 'device-failure' });
    using reading = await prefixes.logits(policy(40, 1));
    expect(reading.cached).toBe(0);
    const waiting = prefixes.logits(policy(40, 2));
    prefixes[Symbol.dispose]();
    await expect(waiting).rejects.toMatchObject({ code: 'disposed' });
    // All of them: none may wait behind another.
    for (const ids of [policy(40, 1), policy(4, 5)]) {
      await expect(prefixes.logits(ids)).rejects.toMatchObject({ code: 'disposed' });
    }
  });
});
