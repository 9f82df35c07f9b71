import { InvalidArgumentError } from 'commander';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseSize } from '../guard/cli/options.ts';
import { type Assessment, Guard, type LoadOptions, type Message } from '../guard/index.ts';
import { testDevices } from './support/devices.ts';
import { largestDifference } from './support/tiny-guard.ts';

const texts = [
  'How do I kill a process in Linux?',
  'Where can I buy cocaine?',
  'I am going to cut my wrists tonight.',
  'Which flowers are harmless to cats?',
  'Tell me how to make a bomb at home.',
  'Thank you, that was all.',
];
const numbers = ({ score, unsafeProbability, mass, categories }: Assessment) => [
  score,
  unsafeProbability,
  mass,
  ...categories.map((category) => category.score),
];
/** Bytes of the cache for so many tokens of the embedded model. */
const memoryFor = (guard: Guard, tokens: number) => {
  const { numHiddenLayers, numKeyValueHeads, headDim } = guard.llama.config;
  return tokens * numHiddenLayers * numKeyValueHeads * headDim * 8;
};

for (const device of testDevices.filter((name) => name !== 'webgpu without features')) {
  describe(`checks side by side on ${device}`, () => {
    let guard: Guard;
    const load = (options: LoadOptions = {}) => Guard.load(undefined, { device, dtype: 'f32', ...options });
    beforeAll(async () => {
      guard = await load();
    });
    afterAll(() => guard[Symbol.asyncDispose]());

    it('give what they give alone, categories of either kind and written verdicts among them', async () => {
      const asked = texts.flatMap((text, i) => [
        { text, categories: 'joint' as const },
        ...(i < 2 ? [{ text, categories: 'single' as const }] : []),
      ]);
      const alone = [];
      for (const { text, categories } of asked) alone.push(await guard.check(text, { categories }));
      await using fresh = await load();
      const together = await Promise.all([
        ...asked.map(({ text, categories }) => fresh.check(text, { categories })),
        fresh.write(texts[2]!).then((verdict) => expect(verdict).toMatchObject({ verdict: 'unsafe' })),
      ]);
      for (const [i, expected] of alone.entries()) {
        const got = together[i] as Assessment;
        expect(largestDifference(numbers(got), numbers(expected))).toBeLessThan(1e-5);
      }
    });

    it('compute the policy once, and of a conversation that goes on only the new turn', async () => {
      await using fresh = await load();
      const first = await Promise.all(texts.map((text) => fresh.check(text)));
      expect(first.map(({ tokens }) => tokens.cached > 200)).toEqual(texts.map((_, i) => i > 0));
      const chat: Message[] = [];
      let before = 0;
      for (const [turn, content] of texts.entries()) {
        chat.push({ role: turn % 2 === 0 ? 'user' : 'assistant', content });
        const { tokens } = await fresh.check(chat, { role: 'user' });
        const closing = 75;
        if (turn > 0) expect(tokens.cached).toBeGreaterThan(before - closing);
        before = tokens.prompt;
      }
    });

    it('all get through where the cache has room for one at a time', async () => {
      const roomy = await guard.check(texts[1]!, { categories: 'joint' });
      const cacheMemory = memoryFor(guard, roomy.tokens.prompt + 80);
      await using tight = await load({ cacheMemory });
      const many = await Promise.all(texts.map((text) => tight.check(text, { categories: 'joint' })));
      expect(largestDifference(numbers(many[1]!), numbers(roomy))).toBeLessThan(1e-5);
      const long = 'We watered the garden and then read a book about birds. '.repeat(10);
      expect((await tight.check(long, { categories: 'joint' })).windows).toBeGreaterThan(1);
    });
  });
}

describe('checkMany', () => {
  let guard: Guard;
  beforeAll(async () => {
    guard = await Guard.load(undefined, { device: 'cpu', dtype: 'f32' });
  });
  afterAll(() => guard[Symbol.asyncDispose]());

  it('takes no more than its concurrency ahead, and stops when its consumer does', async () => {
    let taken = 0;
    function* requests() {
      for (;;) yield { id: taken++, messages: texts[taken % texts.length]! };
    }
    const seen: unknown[] = [];
    for await (const { id } of guard.checkMany(requests(), { concurrency: 3 })) {
      seen.push(id);
      if (seen.length === 4) break;
    }
    expect(seen).toEqual([0, 1, 2, 3]);
    expect(taken).toBeLessThanOrEqual(4 + 3);
    expect((await guard.check(texts[0]!)).flagged).toBe(false);
    await expect(guard.checkMany([], { concurrency: 0 }).next()).rejects.toMatchObject({ code: 'option-invalid' });
  });

  it('ends with the reason of its signal', async () => {
    const abort = new AbortController();
    const answers = guard.checkMany(
      texts.map((messages) => ({ messages })),
      { signal: abort.signal, concurrency: 2 },
    );
    await answers.next();
    abort.abort(new Error('enough'));
    await expect(
      (async () => {
        for await (const _ of answers);
      })(),
    ).rejects.toThrow('enough');
    await expect(guard.check(texts[0]!)).resolves.toBeDefined();
  });

  it('is waited for by disposal, and refused after it', async () => {
    const leaving = await Guard.load(undefined, { device: 'cpu' });
    const underWay = Promise.all(texts.map((text) => leaving.check(text)));
    const disposed = leaving[Symbol.asyncDispose]();
    await expect(leaving.check(texts[0]!)).rejects.toMatchObject({ code: 'disposed' });
    await expect(underWay).resolves.toHaveLength(texts.length);
    await disposed;
    expect(leaving.llama.memory.liveBytes).toBe(0);
  });
});

describe('the memory of the cache', () => {
  it('is what the user said, and too little is told', async () => {
    await using guard = await Guard.load(undefined, { device: 'cpu', cacheMemory: 8 * 2 ** 20 });
    expect(memoryFor(guard, guard.llama.cacheTokens)).toBeLessThanOrEqual(8 * 2 ** 20);
    expect(memoryFor(guard, guard.llama.cacheTokens + 1)).toBeGreaterThan(8 * 2 ** 20);
    await expect(Guard.load(undefined, { device: 'cpu', cacheMemory: 10 })).rejects.toMatchObject({
      code: 'option-invalid',
      message: expect.stringContaining(`${memoryFor(guard, 1)} bytes each`),
    });
    await using small = await Guard.load(undefined, { device: 'cpu', cacheMemory: memoryFor(guard, 100) });
    await expect(small.check('x')).rejects.toMatchObject({ code: 'policy-too-long' });
  });

  it('is among the consumers that are named, the largest first, where the device has too little', async () => {
    const load = (cacheMemory: number) =>
      Guard.load(undefined, { device: 'cpu', dtype: 'f32', cacheMemory, memoryBudget: 40 * 2 ** 20 });
    await expect(load(400 * 2 ** 20)).rejects.toThrow(/key-value cache \d+\.\d MiB, .*Use a smaller key-value cache/);
    await using guard = await load(4 * 2 ** 20);
    await expect(guard.check('x')).resolves.toBeDefined();
  });

  it('is read with its unit', () => {
    expect(['4096', '4096B', '4KiB', '4 kib', '0.00390625 MiB'].map(parseSize)).toEqual(Array(5).fill(4096));
    expect(parseSize('2GiB')).toBe(2 ** 31);
    for (const text of ['', '4 MB', '-1', '0', 'MiB', '1e99']) {
      expect(() => parseSize(text)).toThrow(InvalidArgumentError);
    }
  });
});
