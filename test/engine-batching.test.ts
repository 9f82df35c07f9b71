import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { DeviceError, type Llama, type LlamaOptions, memoryNeeds, Session } from '../engine/index.ts';
import { type TestDevice, testDevices } from './support/devices.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';
import { largestDifference } from './support/tiny-guard.ts';

const config = smallConfig({ maxPositionEmbeddings: 64 });
/** A query's window begins in another run of slots, or was computed in another pass, than the query. */
const windowed = smallConfig({ maxPositionEmbeddings: 64, slidingWindows: [7, 18] });
const scaleOf = (row: ArrayLike<number>) => Math.max(...Array.from(row, Math.abs));
const ids = (count: number, seed: number) => Array.from({ length: count }, (_, i) => (i * 31 + seed * 17 + i * i) % 67);

async function load(device: TestDevice, options: Partial<LlamaOptions> = {}, model = config) {
  const { llama, backend } = await loadRandomModel(model, device, options);
  return { llama, passes: vi.spyOn(backend, 'replay'), reads: vi.spyOn(backend, 'read') };
}

/** The logits after the last token, with nothing else in the batch. */
async function alone(llama: Llama, prompt: readonly number[]): Promise<Float32Array> {
  using session = new Session(llama);
  return await session.prefill(prompt);
}

/** Log-probabilities of some tokens from a row of logits. */
function logsOf(row: Float32Array, picks: readonly number[]): number[] {
  const sum = Math.log(row.reduce((total, x) => total + Math.exp(x), 0));
  return picks.map((id) => row[id]! - sum);
}

const sequence = fc.record({
  seed: fc.nat(100),
  /** Lengths of the calls that it is handed over in. */
  calls: fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1, maxLength: 3 }),
  /** Whether it goes on in a fork after each call. */
  forks: fc.boolean(),
  picks: fc.option(fc.array(fc.nat(66), { minLength: 1, maxLength: 4 })),
});

describe.each(testDevices.filter((device) => device !== 'webgpu without features'))('requests on %s', (device) => {
  it.each([
    ['that see everything', config],
    ['that see windows', windowed],
  ])('%s give what they give alone, however they interleave', async (_, model) => {
    const { llama } = await load(device, { passTokens: 16, cacheTokens: 600 }, model);
    await using _llama = llama;
    await fc.assert(
      fc.asyncProperty(fc.array(sequence, { minLength: 1, maxLength: 6 }), fc.nat(), async (sequences, order) => {
        const asked = sequences.map(({ seed, calls, forks, picks }) => {
          const prompt = ids(
            calls.reduce((a, b) => a + b, 0),
            seed,
          );
          return { prompt, calls: [...calls], forks, picks, context: llama.createContext(), at: 0 };
        });
        const answers: Promise<Float32Array>[] = [];
        for (let turn = order; asked.some(({ calls }) => calls.length > 0); turn++) {
          const one = asked[turn % asked.length]!;
          const count = one.calls.shift();
          if (count === undefined) continue;
          const wanted = [...new Set([count >> 1, count - 1])];
          const input = { context: one.context, ids: one.prompt.slice(one.at, one.at + count), wanted };
          const rows = one.picks ? llama.logProbabilities([input], one.picks) : llama.logits([input]);
          one.at += count;
          expect(one.context.length).toBe(one.at);
          if (one.forks) {
            const fork = one.context.fork();
            one.context[Symbol.dispose]();
            one.context = fork;
          }
          const last = rows.then(([own]) => {
            expect(own).toHaveLength(wanted.length);
            return own!.at(-1)!;
          });
          if (one.calls.length === 0) answers[asked.indexOf(one)] = last;
        }
        const got = await Promise.all(answers);
        for (const { context } of asked) context[Symbol.dispose]();
        expect(llama.freeCacheTokens).toBe(600);
        for (const [i, { prompt, picks }] of asked.entries()) {
          const row = await alone(llama, prompt);
          const expected = picks ? logsOf(row, picks) : row;
          expect(got[i]).toHaveLength(expected.length);
          expect(largestDifference(got[i]!, expected)).toBeLessThan(1e-4 * scaleOf(row));
        }
      }),
      { numRuns: device === 'cpu' ? 60 : 15 },
    );
  });

  it('go through the model together', async () => {
    const { llama, passes } = await load(device, { passTokens: 64, cacheTokens: 600 });
    await using _ = llama;
    const sessions = Array.from({ length: 10 }, () => new Session(llama));
    await Promise.all(sessions.map((session, i) => session.prefill(ids(6, i))));
    expect(passes).toHaveBeenCalledTimes(1);
    await Promise.all(sessions.map((session) => session.prefill([3])));
    expect(passes).toHaveBeenCalledTimes(2);
    for (const session of sessions) session[Symbol.dispose]();
    // 60 tokens and 60 more fill one pass and a part of the next.
    await Promise.all([alone(llama, ids(60, 1)), alone(llama, ids(60, 2))]);
    expect(passes).toHaveBeenCalledTimes(4);
  });
});

describe('a request', () => {
  it('that cannot be served is refused alone and changes nothing', async () => {
    const { llama, passes } = await load('cpu', { cacheTokens: 100 });
    await using _ = llama;
    using context = llama.createContext();
    using other = llama.createContext();
    const first = llama.logits([{ context, ids: ids(40, 1), wanted: [39] }]);
    const refusals = [
      llama.logits([
        { context: other, ids: ids(30, 2), wanted: [] },
        { context, ids: ids(10, 1), wanted: [], headroom: 30 },
      ]),
      llama.logits([{ context: other, ids: [67], wanted: [] }]),
      llama.logits([{ context: other, ids: [1, 2], wanted: [1, 0] }]),
      llama.logits([{ context: other, ids: [1, 2], wanted: [2] }]),
      llama.logProbabilities([{ context: other, ids: [1], wanted: [0] }], []),
      llama.logits([
        { context: other, ids: ids(40, 2), wanted: [] },
        { context: other, ids: ids(30, 2), wanted: [] },
      ]),
    ];
    const codes = ['cache-full', 'token-out-of-range', ...Array(3).fill('invalid-argument'), 'context-overflow'];
    for (const [i, refusal] of refusals.entries()) await expect(refusal).rejects.toMatchObject({ code: codes[i] });
    expect([context.length, other.length, llama.freeCacheTokens]).toEqual([40, 0, 60]);
    expect((await first)[0]![0]).toEqual(await alone(llama, ids(40, 1)));
    expect(passes).toHaveBeenCalledTimes(2);
  });

  it('that the memory has no room for names what takes most, and spoils nothing for others', async () => {
    const { total } = memoryNeeds(config, { dtype: 'f32' });
    const { llama } = await loadRandomModel(config, 'cpu', { memoryBudget: total + 2 ** 17 });
    await using _ = llama;
    using context = llama.createContext();
    const picks = Array.from({ length: 5000 }, (_, i) => i % 67);
    const [refused, beside] = await Promise.allSettled([
      llama.logProbabilities([{ context, ids: [1], wanted: [0] }], picks),
      alone(llama, ids(10, 2)),
    ]);
    expect(refused).toMatchObject({ reason: { code: 'out-of-memory' } });
    expect((refused as PromiseRejectedResult).reason.message).toMatch(
      /Most is taken by '.+' .*smaller key-value cache/,
    );
    expect((beside as PromiseFulfilledResult<Float32Array>).value).toEqual(await alone(llama, ids(10, 2)));
    expect(context.length).toBe(0);
  });

  it('keeps the slots of a context that is disposed while it waits', async () => {
    const { llama } = await load('cpu', { cacheTokens: 60 });
    await using _ = llama;
    const expected = await alone(llama, ids(40, 1));
    const context = llama.createContext();
    const waiting = llama.logits([{ context, ids: ids(40, 1), wanted: [39] }]);
    context[Symbol.dispose]();
    await expect(alone(llama, ids(30, 2))).rejects.toMatchObject({ code: 'cache-full' });
    expect((await waiting)[0]![0]).toEqual(expected);
    expect(llama.freeCacheTokens).toBe(60);
  });

  it('fails with the pass that carries it, and with it what builds on its tokens, and nothing else', async () => {
    const { llama, passes } = await load('cpu', { passTokens: 16, cacheTokens: 200 });
    await using _ = llama;
    const expected = await alone(llama, ids(10, 2));
    using context = llama.createContext();
    using fork = await (async () => {
      await llama.prefill([{ context, ids: ids(5, 1) }]);
      passes.mockImplementationOnce(() => {
        throw new DeviceError('device-failure', 'The device is tired.');
      });
      const failing = llama.logits([{ context, ids: ids(16, 1), wanted: [15] }]);
      const building = context.fork();
      const dependent = llama.logits([{ context: building, ids: [5], wanted: [0] }]);
      const independent = alone(llama, ids(10, 2));
      await expect(failing).rejects.toMatchObject({ code: 'device-failure' });
      await expect(dependent).rejects.toMatchObject({ code: 'context-lost' });
      expect(await independent).toEqual(expected);
      return building;
    })();
    expect([context.lost, fork.lost, context.fork(5).lost]).toEqual([true, true, false]);
    await expect(llama.logits([{ context, ids: [1], wanted: [0] }])).rejects.toMatchObject({ code: 'context-lost' });
  });

  it('fails what builds on tokens of a pass that fails after both were handed to the device', async () => {
    const { llama, reads } = await load('cpu', { passTokens: 16, cacheTokens: 200 });
    await using _ = llama;
    using context = llama.createContext();
    let fail: (error: DeviceError) => void;
    const first = new Promise<never>((_, reject) => (fail = reject));
    // The device answers in order.
    const second = first.catch(() => new Float32Array(config.vocabularySize));
    reads.mockReturnValueOnce(first).mockReturnValueOnce(second);
    const failing = llama.logits([{ context, ids: ids(16, 1), wanted: [15] }]);
    const dependent = llama.logits([{ context, ids: ids(16, 2), wanted: [15] }]);
    await vi.waitFor(() => expect(reads).toHaveBeenCalledTimes(2));
    fail!(new DeviceError('device-failure', 'The device is tired.'));
    await expect(failing).rejects.toMatchObject({ code: 'device-failure' });
    await expect(dependent).rejects.toMatchObject({ code: 'context-lost' });
  });

  it('uses slots that lie apart where no run is long enough', async () => {
    const { llama } = await load('cpu', { cacheTokens: 60 });
    await using _ = llama;
    const expected = await alone(llama, ids(30, 9));
    const sessions = Array.from({ length: 6 }, () => new Session(llama));
    for (const [i, session] of sessions.entries()) await session.prefill(ids(10, i));
    for (const i of [0, 2, 4]) sessions[i]![Symbol.dispose]();
    using apart = new Session(llama);
    expect(largestDifference(await apart.prefill(ids(30, 9)), expected)).toBeLessThan(1e-4 * scaleOf(expected));
    for (const session of sessions) session[Symbol.dispose]();
    expect(llama.freeCacheTokens).toBe(30);
  });
});
