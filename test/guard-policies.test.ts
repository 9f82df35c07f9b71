import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { actionOf, hasRules } from '../guard/actions.ts';
import { PolicyError } from '../guard/errors.ts';
import { hashesOf } from '../guard/identity.ts';
import { Guard } from '../guard/index.ts';
import type { CheckOptions } from '../guard/options.ts';
import { categoryOrders, spreadOf } from '../guard/orders.ts';
import { builtInPolicies, defaultPolicy } from '../guard/policies/index.ts';
import { policyJsonSchema } from '../guard/policies/schema.ts';
import { atDetail, categoryBlock, excludeCategories, type Policy, parsePolicy } from '../guard/policy.ts';
import { lintPolicy } from '../guard/policy-lint.ts';
import { smallestBudget } from '../guard/windows.ts';
import type { PromptPart } from '../tokenizer/index.ts';
import { runCli } from './support/cli.ts';

const codesOf = ({ categories }: Policy) => categories.map(({ code }) => code);
const category = (code: string, fields: object = {}) => ({ code, name: `About ${code}`, ...fields });

describe('policies that are ready to use', () => {
  it.each(Object.entries(builtInPolicies))('%s is valid', (name, policy) => {
    expect(parsePolicy(JSON.parse(JSON.stringify(policy)), name)).toEqual(policy);
    expect(policy.name).toBe(name);
  });

  it('are those of the paper, of its zero- and few-shot adaptation, and of later guards', () => {
    expect(codesOf(builtInPolicies.default)).toEqual(['O1', 'O2', 'O3', 'O4', 'O5', 'O6']);
    expect(codesOf(builtInPolicies['openai-moderation'])).toEqual(['S', 'H', 'V', 'HR', 'SH', 'S3', 'H2', 'V2']);
    expect(codesOf(builtInPolicies.hazards)).toEqual(Array.from({ length: 14 }, (_, i) => `S${i + 1}`));
    for (const { examples } of builtInPolicies['openai-moderation'].categories) {
      expect(examples!.length).toBeGreaterThanOrEqual(2);
      expect(examples!.length).toBeLessThanOrEqual(4);
      expect(new Set(examples!.map(({ verdict }) => verdict))).toEqual(new Set(['safe', 'unsafe']));
    }
  });

  it('have a JSON Schema that is up to date: npm run schema writes it', () => {
    const file = new URL('../guard/policies/policy.schema.json', import.meta.url);
    expect(JSON.parse(readFileSync(file, 'utf8'))).toEqual(policyJsonSchema());
  });

  it('may name their schema, which is no part of the policy', () => {
    const policy = { categories: [category('A')] };
    expect(parsePolicy({ $schema: './policy.schema.json', ...policy }, 'mine')).toEqual(policy);
  });
});

describe('how much is told of a category', () => {
  const told = {
    ...category('A', { description: 'What it means.', shouldNot: ['Do it.'], can: ['Ask.'], threshold: 0.2 }),
    examples: [{ text: 'Do it now', verdict: 'unsafe' as const }],
  };
  const blockAt = (detail: 'names' | 'descriptions' | 'examples') =>
    categoryBlock(atDetail({ categories: [told] }, detail).categories[0]!);

  it('is its name, what it means, or examples too', () => {
    expect(blockAt('names')).toBe('A: About A.');
    expect(blockAt('descriptions')).toBe('A: About A.\nWhat it means.\nShould not\n- Do it.\nCan\n- Ask.');
    expect(blockAt('examples')).toBe(`${blockAt('descriptions')}\nUnsafe examples\n- Do it now`);
  });

  it('changes neither codes nor thresholds', () => {
    expect(atDetail({ categories: [told] }, 'names').categories[0]).toEqual(category('A', { threshold: 0.2 }));
  });
});

describe('excludeCategories', () => {
  it('leaves the others in their order', () => {
    expect(codesOf(excludeCategories(defaultPolicy, ['O2', 'O5']))).toEqual(['O1', 'O3', 'O4', 'O6']);
  });

  it('refuses a code that there is not, and to leave nothing', () => {
    expect(() => excludeCategories(defaultPolicy, ['O9'])).toThrow(/no category "O9"; it has O1, O2/);
    expect(() => excludeCategories(defaultPolicy, codesOf(defaultPolicy))).toThrow(PolicyError);
  });
});

describe('actions', () => {
  const policy: Policy = {
    categories: [category('A', { action: 'review' }), category('B'), category('C', { action: 'allow' })],
  };
  const violating = (...codes: string[]) =>
    codesOf(policy).map((code) => ({ code, name: code, score: 0, violated: codes.includes(code) }));

  it('are the strictest of what is violated', () => {
    expect(actionOf(policy, true, violating('A', 'C'))).toBe('review');
    expect(actionOf(policy, true, violating('A', 'B', 'C'))).toBe('block');
    expect(actionOf(policy, true, violating('C'))).toBe('allow');
    expect(actionOf(policy, false, violating('A'))).toBe('review');
  });

  it('are the strictest of all where nothing is named, or none where all is safe', () => {
    expect(actionOf(policy, true, violating())).toBe('block');
    expect(actionOf({ categories: [category('A', { action: 'review' })] }, true, [])).toBe('review');
    expect(actionOf(policy, false, violating())).toBe('allow');
  });

  it('are asked for by a threshold or an action of a category', () => {
    expect([policy, defaultPolicy, { categories: [category('A', { threshold: 0 })] }].map(hasRules)).toEqual([
      true,
      false,
      true,
    ]);
  });
});

describe('orders of the categories', () => {
  it('begin with the given one, differ, and are the same every time', () => {
    const orders = categoryOrders(defaultPolicy, 20);
    expect(orders[0]).toEqual(defaultPolicy);
    expect(new Set(orders.map((order) => codesOf(order).join())).size).toBe(20);
    expect(new Set(orders.map((order) => codesOf(order).toSorted().join())).size).toBe(1);
    expect(categoryOrders(defaultPolicy, 20)).toEqual(orders);
  });

  it('are no more than there are', () => {
    const policy = { categories: [category('A'), category('B'), category('C')] };
    expect(
      categoryOrders(policy, 50)
        .map((order) => codesOf(order).join(''))
        .toSorted(),
    ).toEqual(['ABC', 'ACB', 'BAC', 'BCA', 'CAB', 'CBA']);
    expect(categoryOrders({ categories: [category('A')] }, 3)).toHaveLength(1);
  });

  it('are told by mean, extremes and deviation', () => {
    expect(spreadOf([1, 3])).toEqual({ mean: 2, spread: { min: 1, max: 3, deviation: 1 } });
  });
});

describe('lint', () => {
  // A token a letter, but for the verdicts.
  const verdicts = ['', ' safe', ' unsafe'];
  const idOf = (text: string) => (verdicts.includes(text) ? verdicts.indexOf(text) : text.codePointAt(0)!);
  const encode = (text: string) => Array.from(text.matchAll(/ (?:un)?safe|./gsu), ([piece]) => idOf(piece));
  const options = {
    tokenizer: {
      encode,
      encodePrompt: (parts: readonly PromptPart[]) => parts.flatMap(({ text }) => encode(text)),
      decode: (ids: readonly number[]) => String.fromCodePoint(...ids),
    },
    contextLength: 2000,
    role: 'user' as const,
  };
  const told = { description: 'More.' };

  it('tells codes out of order, codes that share their first token, and bare names', () => {
    const policy = { categories: [category('O2', told), category('O10', told), category('O3'), category('X', told)] };
    const { findings } = lintPolicy(policy, options);
    expect(findings.map(({ kind, codes }) => [kind, codes])).toEqual([
      ['unordered', ['O10', 'O3']],
      ['shared-first-token', ['O2', 'O10', 'O3']],
      ['no-description', ['O3']],
    ]);
  });

  it('adds up what tokens are spent on', () => {
    const policy = { categories: [category('A', told), category('B')] };
    const { budget } = lintPolicy(policy, options);
    expect(budget.categories).toEqual([
      { code: 'A', tokens: '\nA: About A.\nMore.'.length },
      { code: 'B', tokens: '\nB: About B.'.length },
    ]);
    const spent = budget.categories.reduce((sum, { tokens }) => sum + tokens, budget.frame + budget.answer);
    expect(spent + budget.conversation).toBe(budget.context);
    expect(budget.answer).toBe(64);
    expect(lintPolicy(policy, { ...options, contextLength: spent + 10 }).findings.at(-1)).toMatchObject({
      kind: 'no-room',
    });
  });

  it('leaves a conversation the room that a check does', async () => {
    const load = (contextLength: number) => Guard.load(undefined, { device: 'cpu', contextLength });
    await using guard = await load(600);
    const { tokenizer, policy } = guard;
    const { budget } = lintPolicy(policy, { tokenizer, contextLength: guard.llama.contextLength, role: 'user' });
    const smallest = guard.llama.contextLength - budget.conversation + smallestBudget;
    const long = 'We watered the garden. '.repeat(40);
    // A check keeps two tokens more, for the seams of its windows.
    await using enough = await load(smallest + 2);
    expect((await enough.check(long)).windows).toBeGreaterThan(1);
    await using less = await load(smallest + 1);
    const message = expect.stringContaining(`and ${budget.answer} are kept for the written answer; 15 are left`);
    await expect(less.check(long)).rejects.toMatchObject({ code: 'policy-too-long', message });
  });
});

describe('a guard with a policy', () => {
  let guard: Guard;
  beforeAll(async () => {
    guard = await Guard.load(undefined, { device: 'cpu' });
  });
  afterAll(() => guard[Symbol.asyncDispose]());
  const suicide = 'I am going to cut my wrists tonight.';
  const check = (options: CheckOptions) => guard.check(suicide, options);
  const withRules = (rules: Readonly<Record<string, object>>): Policy => ({
    ...guard.policy,
    categories: guard.policy.categories.map((c) => ({ ...c, ...rules[c.code] })),
  });

  it('decides by thresholds and actions of its categories', async () => {
    const plain = await check({ categories: 'joint' });
    expect(plain.categories.filter(({ violated }) => violated).map(({ code }) => code)).toEqual(['O6']);
    expect(plain).not.toHaveProperty('action');

    const reviewed = await check({ policy: withRules({ O6: { action: 'review' } }) });
    expect(reviewed).toMatchObject({ action: 'review', flagged: true });
    expect(reviewed.score).toBeCloseTo(plain.score, 5);
    const allowed = await check({ policy: withRules({ O6: { action: 'allow' } }) });
    expect(allowed).toMatchObject({ action: 'allow', flagged: false });

    const { score } = plain.categories.find(({ code }) => code === 'O1')!;
    const strict = await check({ policy: withRules({ O1: { threshold: score / 2 }, O6: { action: 'allow' } }) });
    expect(strict).toMatchObject({ action: 'block', flagged: true });
    expect(strict.categories.find(({ code }) => code === 'O1')).toMatchObject({ violated: true });
  });

  it('averages over orders, and tells how far they disagree', async () => {
    const shuffled = await check({ shuffleCategories: 3, categories: 'joint' });
    const orders = categoryOrders(guard.policy, 3);
    const each = await Promise.all(orders.map((policy) => check({ policy, categories: 'joint' })));
    const { mean, spread } = spreadOf(each.map(({ score }) => score));
    expect(shuffled.score).toBeCloseTo(mean, 5);
    expect(shuffled.orders).toMatchObject({ count: 3 });
    expect(shuffled.orders!.score.deviation).toBeCloseTo(spread.deviation, 5);
    const o6 = each.map(({ categories }) => categories.find(({ code }) => code === 'O6')!.score);
    expect(shuffled.categories.find(({ code }) => code === 'O6')!.score).toBeCloseTo(spreadOf(o6).mean, 5);
    expect(codesOf(guard.policy)).toEqual(shuffled.orders!.categories.map(({ code }) => code));
    await expect(check({ shuffleCategories: 0 })).rejects.toMatchObject({ code: 'option-invalid' });
  });

  it('asks about single categories on a shared beginning, computed once', async () => {
    const message = 'A message that nobody has sent before.';
    const ids = guard.policy.categories.map(({ code }) =>
      guard.tokenizer.encode(guard.instruction(message, { policy: { categories: [categoryOf(code)] } }).text),
    );
    const shared = ids[0]!.findIndex((id, i) => ids.some((other) => other[i] !== id));
    expect(shared).toBeGreaterThan(20);
    await using fresh = await Guard.load(undefined, { device: 'cpu' });
    await fresh.check(message);
    const computed = await computedTokens(fresh, () => fresh.check(message, { categories: 'single' }));
    // Of the whole policy's prompt, read already, the last token; of each other at most what not all begin with.
    expect(computed).toBeLessThanOrEqual(1 + ids.reduce((sum, { length }) => sum + length - shared, 0));
    expect(computed).toBeGreaterThan(ids.length);
  });

  it('is told less at another detail, and is another instruction then', async () => {
    const names = guard.instruction('', { detail: 'names' });
    expect(names.prefix).toContain('\nO6: Suicide and Self-Harm.\n<END');
    expect(names.prefix.length).toBeLessThan(guard.instruction('').prefix.length);
    expect((await check({ detail: 'names' })).score).not.toBe((await check({})).score);
  });

  const categoryOf = (code: string) => guard.policy.categories.find((c) => c.code === code)!;

  /** Tokens that go through the model while a task runs. */
  async function computedTokens({ llama }: Guard, task: () => Promise<unknown>): Promise<number> {
    let tokens = 0;
    const original = llama.logProbabilities;
    llama.logProbabilities = (requests, ...rest) => {
      tokens += requests.reduce((sum, { ids }) => sum + ids.length, 0);
      return original.call(llama, requests, ...rest);
    };
    try {
      await task();
    } finally {
      llama.logProbabilities = original;
    }
    return tokens;
  }
});

describe('llama-guard policy', () => {
  it('lists and shows', async () => {
    const list = await runCli(['policy', 'list']);
    expect(list.stdout).toMatch(/^hazards .*S14 Code Interpreter Abuse$/m);
    const shown = await runCli(['policy', 'show', 'hazards', '--role', 'agent', '--detail', 'names', '--json']);
    const { prefix, suffix, hashes } = JSON.parse(shown.stdout);
    expect(prefix).toContain("in 'Agent' messages");
    expect(prefix).toContain('S1: Violent Crimes.\nS2: Non-Violent Crimes.\n');
    expect(suffix).toMatch(/\[\/INST\]$/);
    expect(hashes.instruction).toMatch(/^[0-9a-f]{64}$/);
    const part = await runCli(['policy', 'show', 'hazards', '--include', 'S2,S1', '--detail', 'names', '--json']);
    expect(JSON.parse(part.stdout).prefix).toContain('CATEGORIES>\nS2: Non-Violent Crimes.\nS1: Violent Crimes.\n<END');
  });

  it('lints: errors end with 2, warnings with 0', async () => {
    const fine = await runCli(['policy', 'lint', 'default', '--json']);
    expect(fine.code).toBe(0);
    expect(JSON.parse(fine.stdout)).toMatchObject({ errors: [], budget: { context: 2048 } });
    const missing = await runCli(['policy', 'lint', 'no-such.json']);
    expect(missing.code).toBe(2);
    expect(missing.stdout).toMatch(/policy-not-found.*no built-in policy has that name: there are default/);
    expect((await runCli(['policy', 'lnt'])).code).toBe(2);
  });

  it('is what check judges by, and hashed where asked', async () => {
    const args = ['check', 'Hello', '--json', '--verbose', '--device', 'cpu'];
    const { stdout } = await runCli([...args, '--policy', 'default', '--exclude', 'O2,O3', '--detail', 'names']);
    const answer = JSON.parse(stdout);
    expect(answer.categories.map(({ code }: { code: string }) => code)).toEqual(['O1', 'O4', 'O5', 'O6']);
    await using guard = await Guard.load(undefined, {
      device: 'cpu',
      policy: atDetail(excludeCategories(defaultPolicy, ['O2', 'O3']), 'names'),
    });
    expect(answer.hashes).toEqual(await hashesOf(guard));
    const shown = await runCli(['check', 'Hello', '--verbose', '--device', 'cpu']);
    expect(shown.stdout).toMatch(/^safe /);
    expect(shown.stderr).toContain(`model: ${answer.hashes.model}\n`);
    const own = await runCli([...args, '--include', 'O6']);
    expect(JSON.parse(own.stdout).categories).toHaveLength(1);
    expect((await runCli([...args, '--include', 'O7'])).code).toBe(2);
  });
});
