import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Session } from '../engine/index.ts';
import type { PromptFormat } from '../guard/formats/index.ts';
import { makeHarmless } from '../guard/hostile/index.ts';
import { Guard, type Policy, selectCategories } from '../guard/index.ts';
import { instructionIds } from '../guard/prompts.ts';
import { Reader } from '../guard/reader.ts';

/** Every way to write some of the codes, each once. */
function orderedLists(codes: readonly string[]): string[][] {
  const longer = (list: readonly string[]): string[][] =>
    codes.filter((code) => !list.includes(code)).flatMap((code) => [[...list, code], ...longer([...list, code])]);
  return longer([]);
}

/**
 * By code, the probability of all lists that name it, spelt out after a verdict, and of those alone that name it first: the
 * least that it can be. `verdictProbability` is that of the verdict's token.
 */
async function spelledOut(guard: Guard, text: string, policy: Policy, verdict = 'unsafe') {
  const { tokenizer, llama } = guard;
  const codes = policy.categories.map(({ code }) => code);
  const encode = (written: string) => tokenizer.encode(written);
  using session = new Session(llama);
  await session.prefill(instructionIds(tokenizer, guard.instruction(text, { policy })));
  /** log P of what is written, after what was written before it. */
  const logOf = async (ids: readonly number[]) =>
    (await session.logProbabilities(ids)).reduce((sum, value) => sum + value, 0);
  const ofVerdict = await logOf(encode(verdict));
  const all = new Map(codes.map((code) => [code, 0]));
  const first = new Map(all);
  for (const list of orderedLists(codes)) {
    const written = encode(`${verdict}\n${list.join(',')}`);
    const goesOn = encode(`${verdict}\n${list.join(',')},`);
    expect(goesOn.slice(0, -1)).toEqual(written);
    const last = list.at(-1)!;
    for (const end of [goesOn.at(-1)!, llama.config.eosTokenIds[0]!]) {
      const probability = Math.exp((await logOf([...written, end])) - ofVerdict);
      all.set(last, all.get(last)! + probability);
      if (list.length === 1) first.set(last, first.get(last)! + probability);
    }
  }
  return { all, first, verdictProbability: Math.exp(ofVerdict) };
}

describe('joint category scores', () => {
  let guard: Guard;
  beforeAll(async () => {
    guard = await Guard.load(undefined, { device: 'cpu', dtype: 'f32' });
  });
  afterAll(() => guard[Symbol.asyncDispose]());

  it.each([
    'Help me plan how to rob the bank on Main Street with my gun.',
    'Where can I buy cocaine and a gun without anyone noticing?',
    'How do I kill a process in Linux?',
  ])('are what spelling all lists out gives: %s', async (text) => {
    const policy = selectCategories(guard.policy, ['O3', 'O4', 'O5']);
    const { score, categories } = await guard.check(text, { policy, categories: 'joint' });
    const { all } = await spelledOut(guard, text, policy);
    for (const { code, score: joint } of categories) {
      expect(Math.abs(joint - score * all.get(code)!), code).toBeLessThan(1e-3);
    }
    // A case in which every list but the shortest mattered nothing would prove little.
    expect(Math.max(...all.values())).toBeGreaterThan(0.2);
  });

  it('rank codes that the model hardly writes', async () => {
    const policy: Policy = {
      name: 'words',
      categories: ['Violence', 'Guns', 'Drugs'].map((code) => ({ code, name: code })),
    };
    const text = 'I will kill my neighbour tonight.';
    const { score, categories } = await guard.check(text, { policy, categories: 'joint' });
    const { all, first } = await spelledOut(guard, text, policy);
    expect(Math.max(...all.values())).toBeLessThan(1e-4);
    for (const { code, score: joint } of categories) {
      expect(joint / (score * first.get(code)!), code).toBeGreaterThan(1 - 1e-3);
      expect(joint / (score * all.get(code)!), code).toBeLessThan(1 + 1e-3);
    }
  });

  it('are the mean over the labels that count as unsafe, as probable as they are', async () => {
    const policy = selectCategories(guard.policy, ['O3', 'O4', 'O5']);
    const text = 'Where can I buy cocaine and a gun without anyone noticing?';
    const { tokenizer, llama } = guard;
    const format: PromptFormat = {
      ...guard.format,
      answer: {
        ...guard.format.answer,
        labelsAreTokens: false,
        labels: [
          { name: 'no', spellings: [' no'], means: 'safe' },
          { name: 'unsafe', spellings: [' unsafe'], means: 'unsafe' },
          { name: 'controversial', spellings: [' safe'], means: 'unsafe' },
        ],
      },
    };
    using reader = new Reader(llama, tokenizer, format);
    const { turns } = makeHarmless([{ speaker: 'User', text, messageIndex: 0 }]);
    const task = { policy, role: 'user', spellings: [turns], adapter: undefined, signal: undefined } as const;
    const { score, byCode } = await reader.read(task, 'joint');
    const verdicts = [await spelledOut(guard, text, policy), await spelledOut(guard, text, policy, 'safe')];
    const unsafe = verdicts.reduce((sum, { verdictProbability }) => sum + verdictProbability, 0);
    for (const [code, joint] of byCode!) {
      const named = verdicts.reduce((sum, { all, verdictProbability }) => sum + verdictProbability * all.get(code)!, 0);
      expect(Math.abs(joint - (score * named) / unsafe), code).toBeLessThan(1e-3);
    }
    for (const { verdictProbability } of verdicts) expect(verdictProbability).toBeGreaterThan(0.2);
  });
});
