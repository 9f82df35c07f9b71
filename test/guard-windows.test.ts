import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { OptionError } from '../guard/errors.ts';
import { llamaGuard1 } from '../guard/formats/index.ts';
import { renderTurns } from '../guard/instruction.ts';
import type { Turn } from '../guard/messages.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { type Piece, smallestBudget, splitIntoWindows } from '../guard/windows.ts';
import { loadTokenizer } from '../tokenizer/load.node.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';

const turn = (speaker: Turn['speaker'], text: string, messageIndex = 0): Turn => ({ speaker, text, messageIndex });

const frame = llamaGuard1.frame(llamaGuard1.policy, 'user');

/** Words, marks and spaces are a token each; what is neither ASCII nor a letter takes four, as byte tokens do. */
const count = (text: string) =>
  Array.from(text.matchAll(/\p{L}+|[ -~\n]|./gsu), ([part]) => (/^[^\p{L} -~\n]/u.test(part) ? 4 : 1)).reduce(
    (sum, tokens) => sum + tokens,
    0,
  );
const countTokens = async (turns: readonly Turn[]) => count(renderTurns(frame, turns));

function assertCovers(turns: readonly Turn[], windows: readonly (readonly Piece[])[]): void {
  let shown = 0;
  const starts = turns.map((_, index) => turns.slice(0, index).reduce((sum, { text }) => sum + text.length + 1, 0));
  const ends: number[] = [];
  const begins: number[] = [];
  for (const window of windows) {
    expect(window.length).toBeGreaterThan(0);
    window.forEach(({ speaker, text, messageIndex, offset }, place) => {
      const original = turns[messageIndex]!;
      expect(original.text.slice(offset, offset + text.length)).toBe(text);
      expect(speaker).toBe(original.speaker);
      if (place > 0) expect(messageIndex).toBe(window[place - 1]!.messageIndex + 1);
      const whole = original.text;
      // Only the first turn of a window may lack its beginning, and only the last its end.
      if (place > 0 && place < window.length - 1) expect(text).toBe(whole);
      else if (place > 0) expect(whole.startsWith(text)).toBe(true);
      else if (window.length > 1) expect(whole.endsWith(text)).toBe(true);
      else expect(whole).toContain(text);
    });
    const [first, last] = [window[0]!, window.at(-1)!];
    const begin = starts[first.messageIndex]! + first.offset;
    const wholeEnd = turns[last.messageIndex]!.text;
    let end = window.length > 1 ? starts[last.messageIndex]! + last.text.length : begin + last.text.length;
    if (end === starts[last.messageIndex]! + wholeEnd.length) end++;
    expect(begin).toBeLessThanOrEqual(shown);
    expect(end).toBeGreaterThan(shown);
    if (begins.length > 0) expect(begin).toBeGreaterThan(begins.at(-1)!);
    begins.push(begin);
    ends.push(end);
    shown = end;
  }
  expect(shown).toBe(turns.reduce((sum, { text }) => sum + text.length + 1, 0));
}

/** Text in which no two pieces of a few characters are alike: it counts in words. */
const counting = fc
  .tuple(fc.nat({ max: 300 }), fc.constantFrom(' ', '. ', '\n', '', ', ', '\u{1f600}', '! '))
  .map(([words, mark]) => Array.from({ length: words }, (_, word) => `w${word + 1000}${mark}`).join(''));
const conversation = fc
  .array(fc.tuple(fc.constantFrom('User' as const, 'Agent' as const), counting), { minLength: 1, maxLength: 12 })
  .map((messages) => messages.map(([speaker, text], index) => turn(speaker, text, index)));

describe('splitIntoWindows', () => {
  it('leaves a conversation alone that fits', async () => {
    const turns = [turn('User', 'Hello there.'), turn('Agent', '', 1)];
    const budget = Math.max(smallestBudget, await countTokens(turns));
    const whole = turns.map((each) => ({ ...each, offset: 0 }));
    expect(await splitIntoWindows(turns, { countTokens, budget })).toEqual([whole]);
    expect(await splitIntoWindows([], { countTokens, budget })).toEqual([[]]);
  });

  it('holds its promises for any conversation', async () => {
    await fc.assert(
      fc.asyncProperty(
        conversation,
        fc.integer({ min: 24, max: 600 }),
        fc.constantFrom(0, 0.1, 0.25, 0.5),
        async (turns, budget, overlap) => {
          const windows = await splitIntoWindows(turns, { countTokens, budget, overlap });
          for (const window of windows) expect(await countTokens(window)).toBeLessThanOrEqual(budget);
          if ((await countTokens(turns)) <= budget)
            expect(windows).toEqual([turns.map((each) => ({ ...each, offset: 0 }))]);
          else expect(windows.length).toBeGreaterThan(1);
          assertCovers(turns, windows);
        },
      ),
      { numRuns: 100 },
    );
  });

  it('never parts a surrogate pair, and loses nothing of any text', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'binary', maxLength: 200 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 24, max: 100 }),
        async (texts, budget) => {
          const turns = texts.map((text, index) => turn('User', text, index));
          const windows = await splitIntoWindows(turns, { countTokens, budget, overlap: 0 });
          for (const window of windows) {
            expect(await countTokens(window)).toBeLessThanOrEqual(budget);
            for (const { text } of window) expect(text.isWellFormed()).toBe(true);
          }
          const pieces = texts.map(() => '');
          for (const { text, messageIndex } of windows.flat()) pieces[messageIndex] += text;
          expect(pieces).toEqual(texts);
        },
      ),
    );
  });

  it('cuts between messages where it can', async () => {
    const turns = Array.from({ length: 20 }, (_, index) =>
      turn(index % 2 ? 'Agent' : 'User', `Message ${index}.`, index),
    );
    const windows = await splitIntoWindows(turns, { countTokens, budget: 60 });
    expect(windows.length).toBeGreaterThan(2);
    expect(windows.flat().every(({ text, messageIndex }) => text === turns[messageIndex]!.text)).toBe(true);
  });

  it('cuts between sentences where a message is too long', async () => {
    const text = Array.from({ length: 40 }, (_, index) => `This is sentence number ${index}. `).join('');
    for (const [piece] of await splitIntoWindows([turn('User', text)], { countTokens, budget: 100 })) {
      expect(piece!.text).toMatch(/^This is .*\. $/);
    }
  });

  it('cuts between words where a sentence is too long, and between code points where a word is', async () => {
    const words = 'lorem ipsum dolor sit amet '.repeat(40);
    for (const [piece] of await splitIntoWindows([turn('User', words)], { countTokens, budget: 60 })) {
      expect(piece!.text).toMatch(/^(lorem|ipsum|dolor|sit|amet) .* $/);
    }
    const emoji = '\u{1f600}'.repeat(100);
    const windows = await splitIntoWindows([turn('User', emoji)], { countTokens, budget: 60 });
    for (const [piece] of windows) expect(piece!.text).toMatch(/^\u{1f600}+$/u);
  });

  it('repeats about the share of the budget that it is told to', async () => {
    const text = Array.from({ length: 3000 }, (_, index) => `w${index}${index % 9 === 8 ? '. ' : ' '}`).join('');
    for (const overlap of [0, 0.1, 0.25, 0.5]) {
      const windows = await splitIntoWindows([turn('User', text)], { countTokens, budget: 500, overlap });
      const spans = windows.map(([piece]) => [text.indexOf(piece!.text), piece!.text.length] as const);
      for (const [place, [start]] of spans.entries()) {
        if (place === 0) continue;
        const [before, length] = spans[place - 1]!;
        const repeated = count(text.slice(start, before + length)) / 500;
        expect(repeated).toBeGreaterThanOrEqual(overlap * 0.4);
        expect(repeated).toBeLessThanOrEqual(overlap);
      }
    }
  });

  it('keeps the windows of a conversation that grows', async () => {
    const text = Array.from({ length: 400 }, (_, index) => `w${index}${index % 9 === 8 ? '. ' : ' '}`).join('');
    const windowsOf = (length: number) =>
      splitIntoWindows([turn('User', 'Tell me.'), turn('Agent', text.slice(0, length), 1)], {
        countTokens,
        budget: 90,
      });
    for (let length = 300; length < text.length; length += 37) {
      const windows = await windowsOf(length);
      const kept = (await windowsOf(length + 37)).slice(0, windows.length - 1);
      // The last one but one ends by what follows it in some sixty characters.
      expect(kept.slice(0, -1)).toEqual(windows.slice(0, -2));
    }
  });

  it('gives windows that have no turn of one speaker', async () => {
    const turns = [turn('User', 'word '.repeat(300)), turn('Agent', 'No.', 1)];
    const windows = await splitIntoWindows(turns, { countTokens, budget: 100 });
    expect(windows[0]!.map(({ speaker }) => speaker)).toEqual(['User']);
    expect(windows.at(-1)!.at(-1)).toEqual({ ...turns[1], offset: 0 });
  });

  it('refuses a budget or an overlap that makes no sense', async () => {
    const split = (budget: number, overlap = 0.25) =>
      splitIntoWindows([turn('User', 'x')], { countTokens, budget, overlap });
    for (const budget of [0, smallestBudget - 1, Number.NaN]) await expect(split(budget)).rejects.toThrow(OptionError);
    for (const overlap of [-0.1, 0.6, Number.NaN]) await expect(split(100, overlap)).rejects.toThrow(OptionError);
    const greedy = async (turns: readonly Turn[]) => 20 * renderTurns(frame, turns).length;
    const tooGreedy = splitIntoWindows([turn('User', 'xyz')], { countTokens: greedy, budget: 100 });
    await expect(tooGreedy).rejects.toThrow(/one character/);
  });

  describe('with the embedded tokenizer', () => {
    let tokenizer: Tokenizer;
    beforeAll(async () => {
      tokenizer = await loadTokenizer(embeddedModel);
    });
    afterAll(() => tokenizer[Symbol.dispose]());

    it.each([
      ['prose', 'How do planes fly? What is the capital of France? I spilled wine on my carpet, how do I clean it? '],
      ['code', '\tdef f(x):\n\t    return x  +  1\n\n# it   prints 1024, not 3.14\n'],
      ['a word without end', 'a'],
      ['emoji', '\u{1f600}'],
      ['spaces', ' '],
      ['other scripts', '你好，世界。ما هو الطقس اليوم؟ '],
    ])('reads a quarter of a megabyte of %s, each token some ten times', async (_, unit) => {
      const turns = [turn('User', unit.repeat(2 ** 18 / unit.length)), turn('Agent', 'Yes.', 1)];
      let counted = 0;
      const counting = async (shown: readonly Turn[]) => {
        const tokens = tokenizer.count(renderTurns(frame, shown));
        counted += tokens;
        return tokens;
      };
      const windows = await splitIntoWindows(turns, { countTokens: counting, budget: 1500 });
      for (const window of windows) expect(tokenizer.count(renderTurns(frame, window))).toBeLessThanOrEqual(1500);
      const total = tokenizer.count(renderTurns(frame, turns));
      expect(counted).toBeLessThan(12 * total + 20_000);
      expect(windows.length).toBeLessThan((2 * total) / 1500 + 2);
    });
  });
});
