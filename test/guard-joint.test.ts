import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Session } from '../engine/index.ts';
import { Guard, type Policy, selectCategories } from '../guard/index.ts';
import { instructionIds } from '../guard/prompts.ts';

/** Every way to write some of the codes, each once. */
function orderedLists(codes: readonly string[]): string[][] {
  const longer = (list: readonly string[]): string[][] =>
    codes.filter((code) => !list.includes(code)).flatMap((code) => [[...list, code], ...longer([...list, code])]);
  return longer([]);
}

/**
 * By code, the probability of all lists that name it, spelt out after an unsafe verdict, and of those alone that name it
 * first: the least that it can be.
 */
async function spelledOut(guard: Guard, text: string, policy: Policy) {
  const { tokenizer, llama } = guard;
  const codes = policy.categories.map(({ code }) => code);
  const encode = (written: string) => tokenizer.encode(written);
  using session = new Session(llama);
  await session.prefill(instructionIds(tokenizer, guard.instruction(text, { policy })));
  /** log P of what is written, after what was written before it. */
  const logOf = async (ids: readonly number[]) =>
    (await session.logProbabilities(ids)).reduce((sum, value) => sum + value, 0);
  const unsafe = await logOf(encode('unsafe'));
  const all = new Map(codes.map((code) => [code, 0]));
  const first = new Map(all);
  for (const list of orderedLists(codes)) {
    const written = encode(`unsafe\n${list.join(',')}`);
    const goesOn = encode(`unsafe\n${list.join(',')},`);
    expect(goesOn.slice(0, -1)).toEqual(written);
    const last = list.at(-1)!;
    for (const end of [goesOn.at(-1)!, llama.config.eosTokenIds[0]!]) {
      const probability = Math.exp((await logOf([...written, end])) - unsafe);
      all.set(last, all.get(last)! + probability);
      if (list.length === 1) first.set(last, first.get(last)! + probability);
    }
  }
  return { all, first };
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
});
