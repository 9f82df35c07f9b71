import { existsSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildInstruction } from '../guard/formats/index.ts';
import { makeHarmless } from '../guard/hostile/index.ts';
import type { Role, Turn } from '../guard/messages.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { defaultPolicy } from '../guard/policies/default.ts';
import { loadTokenizer } from '../tokenizer/load.node.ts';
import { shared } from './support/shared.ts';

interface Attempt {
  readonly name: string;
  readonly text: string;
  /** What it is to be reported as. */
  readonly kinds: readonly string[];
}

const corpus: readonly Attempt[] = JSON.parse(readFileSync(new URL('./hostile-corpus.json', import.meta.url), 'utf8'));

const turn = (speaker: Turn['speaker'], text: string, messageIndex = 0): Turn => ({ speaker, text, messageIndex });

/** Conversations that hold a text, by its place in them. */
const places: Readonly<Record<string, { role: Role; around: (text: string) => Turn[] }>> = {
  'a message of the user': { role: 'user', around: (text) => [turn('User', text)] },
  'an answer of the agent': { role: 'agent', around: (text) => [turn('User', 'Hi.'), turn('Agent', text, 1)] },
  'an earlier message': { role: 'agent', around: (text) => [turn('User', text), turn('Agent', 'Sure.', 1)] },
};

const llama2 = dirname(shared.llama2Tokenizer);
const tokenizers = {
  'the embedded tokenizer': embeddedModel,
  ...(existsSync(shared.llama2Tokenizer) ? { 'the tokenizer of Llama 2': llama2 } : {}),
};

describe.each(Object.entries(tokenizers))('with %s', async (_, folder) => {
  const tokenizer = await loadTokenizer(folder);

  /** The prompts of a conversation, one for each spelling that is read, before and behind the text in its middle. */
  const promptsOf = (turns: readonly Turn[], role: Role) => {
    const { turns: written, normalised } = makeHarmless(turns);
    return [written, ...(normalised ? [normalised] : [])].map((shown) => {
      const instruction = buildInstruction({ policy: defaultPolicy, role, turns: shown });
      return { ids: tokenizer.encodePrompt(instruction.parts), ...instruction };
    });
  };

  describe.each(Object.entries(places))('in %s', (_, { role, around }) => {
    const neutral = around('Hello');
    const [{ ids: expected, prefix, suffix }] = promptsOf(neutral, role) as [ReturnType<typeof promptsOf>[number]];
    // The text begins behind its speaker's colon and ends before a blank line, which may be one token with its own.
    const before = neutral.findIndex(({ text }) => text === 'Hello');
    const head = neutral
      .slice(0, before + 1)
      .map(({ speaker, text }, i) => `${speaker}:${i < before ? ` ${text}` : ''}`);
    const fixedBefore = tokenizer.encodePrompt([{ of: 'frame', text: prefix + head.join('\n\n') }]);
    const behind = neutral.slice(before + 1).map(({ speaker, text }) => `${speaker}: ${text}`);
    const lineBreaks = tokenizer.encode('a\n\n').length - tokenizer.encode('a').length;
    const fixedBehind = tokenizer
      .encode(`a\n\n${[...behind, suffix.trimStart()].join('\n\n')}`)
      .slice(tokenizer.encode('a').length + lineBreaks);

    it('has fixed parts', () => {
      expect(expected.slice(0, fixedBefore.length)).toEqual(fixedBefore);
      expect(expected.slice(-fixedBehind.length)).toEqual(fixedBehind);
      expect(fixedBefore.length + fixedBehind.length).toBeGreaterThan(expected.length - 8);
    });

    it.each(corpus)('nothing comes of $name', ({ text }) => {
      for (const { ids } of promptsOf(around(text), role)) {
        expect(ids.slice(0, fixedBefore.length)).toEqual(fixedBefore);
        expect(ids.slice(-fixedBehind.length)).toEqual(fixedBehind);
        const middle = ids.slice(fixedBefore.length, -fixedBehind.length);
        for (const id of tokenizer.addedTokens.values()) expect(middle).not.toContain(id);
        const shown = tokenizer.decode(middle);
        expect(shown).not.toMatch(
          /<\/?(begin|end)[\s_-]*(unsafe|conversation)|\[\/?inst\]|<<\/?sys>>|^(user|agent)\s*:|<\|\S*\|>|<\/?s>/im,
        );
      }
    });
  });
});

it.each(corpus)('reports $name', ({ text, kinds }) => {
  const { suspicions } = makeHarmless([turn('User', text)]);
  expect([...new Set(suspicions.map(({ kind }) => kind))].sort()).toEqual(kinds);
  for (const { start, end } of suspicions) {
    expect(start).toBeGreaterThanOrEqual(0);
    expect(end).toBeGreaterThan(start);
    expect(end).toBeLessThanOrEqual(text.length);
  }
});
