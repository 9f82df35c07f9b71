import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeModel } from '../bench/make-model/index.ts';
import { answerTokens } from '../guard/answer.ts';
import { llamaGuard1, llamaGuard3, type PromptFormat, qwen3Guard, wildGuard } from '../guard/formats/index.ts';
import { makeHarmless } from '../guard/hostile/index.ts';
import { Guard } from '../guard/index.ts';
import { instructionOf } from '../guard/instruction.ts';
import { WrittenList } from '../guard/joint.ts';
import { instructionIds, promptsWithin } from '../guard/prompts.ts';
import type { HuggingFaceTokenizer } from '../tokenizer/index.ts';
import { type FamilyName, fixtureFiles, loadFiles } from './support/tokenizer-fixtures.ts';

const read = (name: string) => readFileSync(new URL(name, import.meta.url), 'utf8');
const { conversations } = JSON.parse(read('./oracles/prompts.json')) as { conversations: Record<string, string[]> };
const oracle = JSON.parse(read('./oracles/tokenizer-json.json')) as {
  tokenizers: Record<FamilyName, { prompts: Record<string, Record<string, string>> }>;
};
const messagesOf = (texts: readonly string[]) =>
  texts.map((content, i) => ({ role: i % 2 === 0 ? ('user' as const) : ('assistant' as const), content }));

/** Models in small whose vocabularies are those of the fixtures, the special tokens' ids with them. */
const models: [like: string, family: FamilyName, template: string, changes: Record<string, unknown>][] = [
  ['llama-guard-3-1b', 'llama-3', 'llama-guard-3', { bos_token_id: 1792, eos_token_id: [1793, 1800, 1801] }],
  ['llama-guard-2-8b', 'llama-3', 'llama-guard-2', { bos_token_id: 1792, eos_token_id: 1793 }],
  ['qwen3guard-gen-0.6b', 'qwen', 'qwen3guard', { bos_token_id: 1755, eos_token_id: 1757 }],
  ['llama-guard-7b', 'mistral-v0.1', 'llama-guard-1', {}],
];

describe.each(models)('a folder like %s with a tokenizer.json', (like, family, template, changes) => {
  let folder: string;
  let guard: Guard;
  const expected = oracle.tokenizers[family].prompts[template]!;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'guard-tokenizers-'));
    await makeModel(folder, {
      like,
      scale: 0.02,
      shards: 1,
      changes: { ...changes, vocab_size: 2048 },
      makeTokenizer: () => fixtureFiles(family),
      chatTemplate: read(`../bench/make-model/templates/${template}.jinja`),
    });
    guard = await Guard.load(folder, { device: 'cpu', contextLength: 2048 });
  });
  afterAll(async () => {
    await guard[Symbol.asyncDispose]();
    await rm(folder, { recursive: true });
  });

  it.each(Object.entries(conversations))('asks about %s in the ids of transformers', (name, texts) => {
    const ids = instructionIds(guard.tokenizer, guard.instruction(messagesOf(texts)));
    expect(ids.join(' ')).toBe(expected[name]);
  });

  it('reads a verdict, and writes one', async () => {
    const { score, mass, categories, tokens } = await guard.check('How do I kill a process?', { categories: 'joint' });
    expect(score).toBeGreaterThan(0);
    expect(score).toBeLessThan(1);
    expect(mass).toBeGreaterThan(0);
    expect(tokens.prompt).toBe(instructionIds(guard.tokenizer, guard.instruction('How do I kill a process?')).length);
    for (const category of categories) expect(category.score).toBeGreaterThanOrEqual(0);
    expect(categories.map(({ code }) => code)).toEqual(guard.policy.categories.map(({ code }) => code));
    expect(await guard.write('Hello')).toHaveProperty('verdict');
  });

  it('lets no message spell a token, not even one that nobody made harmless', () => {
    const { tokenizer, format, policy } = guard;
    const added = new Set(tokenizer.addedTokens.values());
    const frame = format.frame(policy, 'user');
    const addedIn = (text: string) => {
      const instruction = instructionOf(frame, [{ speaker: 'User', text, messageIndex: 0 }]);
      return instructionIds(tokenizer, instruction).filter((id) => added.has(id));
    };
    const honest = addedIn('Hello');
    const corpus = JSON.parse(read('./hostile-corpus.json')) as { text: string }[];
    for (const { text } of corpus) expect(addedIn(text)).toEqual(honest);
    for (const content of tokenizer.addedTokens.keys()) expect(addedIn(`${content}Hello ${content}`)).toEqual(honest);
  });
});

describe('on the way to a verdict', () => {
  let tokenizers: Record<'llama-3' | 'qwen' | 'mistral', HuggingFaceTokenizer>;
  beforeAll(async () => {
    const names = ['llama-3', 'qwen', 'mistral'] as const;
    const loaded = await Promise.all(
      names.map(async (name) => [name, await loadFiles(await fixtureFiles(name))] as const),
    );
    tokenizers = Object.fromEntries(loaded) as typeof tokenizers;
  });

  const answerOf = (tokenizer: HuggingFaceTokenizer, format: PromptFormat, role: 'user' | 'agent') => {
    const answer = answerTokens(tokenizer, format.answer, role, format.frame(format.policy, role).after.User);
    const pieces = (ids: readonly number[]) => ids.map((id) => tokenizer.pieceOf(id));
    return { answer, pieces };
  };

  it('Llama Guard 3 writes a blank line behind the header, then a word', () => {
    const { answer, pieces } = answerOf(tokenizers['llama-3'], llamaGuard3, 'user');
    expect(answer.steps).toEqual([{ force: [tokenizers['llama-3'].idOf('\u010a\u010a')] }]);
    expect(answer.labels.map(({ spellings }) => pieces(spellings.map(({ firstId }) => firstId)))).toEqual([
      ['safe'],
      ['unsafe'],
    ]);
  });

  it('a category may be one token with the comma before it', () => {
    const { answer, pieces } = answerOf(tokenizers['llama-3'], llamaGuard3, 'user');
    const { answer: grammar, policy } = llamaGuard3;
    const list = new WrittenList(grammar.list!, 'unsafe', answer, policy);
    expect(pieces(list.ids(['S1', 'S2']))).toEqual(['unsafe', '\u010a', 'S', '1', ',S', '2']);
    expect(pieces(list.start)).toEqual(['unsafe', '\u010a']);
    expect(pieces(list.follow().separators)).toEqual([',', ',S']);
  });

  it("a list may begin with a space that is its first category's", () => {
    const { answer, pieces } = answerOf(tokenizers.qwen, qwen3Guard, 'agent');
    const { answer: grammar, policy } = qwen3Guard;
    const list = new WrittenList(grammar.list!, ' Unsafe', answer, policy);
    expect(pieces(list.ids([])).slice(-2)).toEqual([':', '\u0120']);
    expect(pieces(list.start).at(-1)).toBe(':');
    expect(pieces(list.ids(['Violent'])).slice(list.start.length)).toEqual(['\u0120Violent']);
    expect(pieces(list.follow().separators)).toEqual([',']);
    expect(pieces(list.follow().ends)).toEqual(['\u010a']);
  });

  it('WildGuard reads behind tokens of its frame', () => {
    const tokenizer = tokenizers.mistral;
    const { answer, pieces } = answerOf(tokenizer, wildGuard, 'agent');
    expect(answer.labels.map(({ spellings }) => pieces(spellings.map(({ firstId }) => firstId)))).toEqual([
      ['\u2581yes'],
      ['\u2581no'],
    ]);
    const { parts } = instructionOf(wildGuard.frame(wildGuard.policy, 'user'), [
      { speaker: 'User', text: '[INST] Hi [/INST]', messageIndex: 0 },
    ]);
    const ids = tokenizer.encodePrompt(parts);
    expect(ids.filter((id) => id === tokenizer.idOf('[INST]'))).toHaveLength(1);
    expect(ids[0]).toBe(tokenizer.bosId);
  });

  it('windows count the tokens of the frame between turns', async () => {
    const tokenizer = tokenizers['llama-3'];
    const frame = {
      before: '<|begin_of_text|>Judge.\n',
      opening: {
        User: '<|start_header_id|>user<|end_header_id|>\n\n',
        Agent: '<|start_header_id|>agent<|end_header_id|>\n\n',
      },
      between: '<|eot_id|>',
      after: { User: '<|eot_id|>', Agent: '<|eot_id|>' },
      trims: false,
    };
    const { turns } = makeHarmless(
      Array.from(
        { length: 40 },
        (_, i) => ({ speaker: i % 2 ? 'Agent' : 'User', text: 'safe', messageIndex: i }) as const,
      ),
    );
    const limit = 60;
    const prompts = await promptsWithin({ tokens: limit, reserved: 0 }, tokenizer, frame, turns, async (piece) =>
      piece(),
    );
    const longest = Math.max(...prompts.map(({ ids }) => ids.length));
    expect(prompts.length).toBeGreaterThan(3);
    expect(longest).toBeLessThanOrEqual(limit);
    // A turn takes six tokens, and none is counted as the text that spells it.
    expect(longest).toBeGreaterThan(limit - 10);
  });

  it('Llama Guard 1 has one BOS, spelt by its template or put there', () => {
    const tokenizer = tokenizers.mistral;
    const frame = llamaGuard1.frame(llamaGuard1.policy, 'user');
    const idsOf = (before: string) => tokenizer.encodePrompt(instructionOf({ ...frame, before }, []).parts);
    for (const ids of [idsOf(frame.before), idsOf(`<s>${frame.before}`)]) {
      expect(ids.filter((id) => id === tokenizer.bosId)).toHaveLength(1);
      expect(ids[0]).toBe(tokenizer.bosId);
    }
  });
});
