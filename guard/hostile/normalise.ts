import { LookAlikes } from './look-alikes.ts';
import { Rewriting } from './rewriting.ts';
import { inOrder, Listing, type Suspicion } from './suspicion.ts';

/** A stretch of a text, and for each of its UTF-16 units what is meant by it. */
interface Found {
  readonly start: number;
  readonly meant: readonly string[];
}

/**
 * Undoes what a reader reads past and a tokenizer does not: letters set apart, invisible characters inside words, letters
 * of other scripts that look the same. Nothing else is changed: a text without any of it comes back as it was and
 * without a suspicion, in whatever script it is. Time is linear in the text's length.
 *
 * @returns suspicions in the order of their starts
 */
export function normalise(text: string): {
  readonly rewriting: Rewriting;
  readonly suspicions: readonly Suspicion[];
} {
  let rewriting = new Rewriting(text);
  const suspicions: Suspicion[] = [];
  for (const { kind, find } of disguises) {
    const listing = new Listing(kind, text);
    let units: string[] | undefined;
    for (const { start, meant } of find(rewriting.text)) {
      listing.add(...rewriting.spanOf(start, start + meant.length));
      units ??= rewriting.text.split('');
      for (const [i, unit] of meant.entries()) units[start + i] = unit;
    }
    if (units) rewriting = rewriting.replace(units);
    suspicions.push(...listing.entries());
  }
  return { rewriting, suspicions: inOrder(suspicions) };
}

/** In the order in which they are undone: a spaced word may hold look-alikes. */
const disguises = [
  { kind: 'spaced-letters', find: spacedLetters },
  { kind: 'invisible-characters', find: interruptedWords },
  { kind: 'look-alikes', find: disguisedWords },
] as const;

/** Letters of scripts that use no invisible character inside a word, and their accents; shares none with `invisible`. */
const letter = '\\p{Script=Latin}\\p{Script=Greek}\\p{Script=Cyrillic}\\u0300-\\u034e\\u0350-\\u036f';
const invisible = '\\p{Default_Ignorable_Code_Point}\\p{Cf}';
const one = `[${letter}][${invisible}]*`;

/** Four letters or more with the same separator between them, or spaces where a word ends. */
const spaced = new RegExp(
  `(?<![\\p{L}\\p{M}\\p{N}])${one}([ .\\-_*\\u00b7\\u2022~])${one}(?:(?:\\1| {1,3})${one}){2,}(?![\\p{L}\\p{M}\\p{N}])`,
  'gu',
);

function* spacedLetters(text: string): Generator<Found> {
  for (const { index: start, 0: found, 1: separator } of text.matchAll(spaced)) {
    const meant = found.split('');
    for (const { index, 0: gap } of found.matchAll(new RegExp(`[^${letter}]+`, 'gu'))) {
      const seen = gap.replace(new RegExp(`[${invisible}]`, 'gu'), '');
      meant.fill('', index, index + gap.length);
      if (seen !== separator && seen !== '') meant[index] = ' ';
    }
    yield { start, meant };
  }
}

const interrupted = new RegExp(`(?<![${letter}])[${letter}]+(?:[${invisible}]+[${letter}]+)+`, 'gu');

function* interruptedWords(text: string): Generator<Found> {
  for (const { index: start, 0: found } of text.matchAll(interrupted)) {
    const meant = found.split('');
    for (const { index, 0: run } of found.matchAll(new RegExp(`[${invisible}]+`, 'gu'))) {
      meant.fill('', index, index + run.length);
    }
    yield { start, meant };
  }
}

function* disguisedWords(text: string): Generator<Found> {
  const lookAlikes = new LookAlikes(text);
  for (const { index: start, 0: word } of text.matchAll(/[\p{Alphabetic}\p{M}]+/gu)) {
    const resolved = lookAlikes.resolve(word);
    if (!resolved) continue;
    // The second unit of a surrogate pair has gone into the first.
    const meant = [...word].flatMap((character, i) => [resolved[i]!, ...(character.length > 1 ? [''] : [])]);
    yield { start, meant };
  }
}
