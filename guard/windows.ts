import { OptionError } from './errors.ts';
import type { Turn } from './messages.ts';

/** A turn of which a window may show a part only: `text`, which begins at `offset` of the whole turn's. */
export type Piece<T extends Turn = Turn> = T & { readonly offset: number };

export interface WindowOptions {
  /** Tokens of turns as they are shown, without BOS; may let others have their turn first. */
  countTokens(turns: readonly Turn[]): Promise<number>;
  /** Tokens that the rendered turns of one window may take. */
  readonly budget: number;
  /** The share of the budget that a window repeats of the one before it: from 0 to 0.5, 0.25 unless told. */
  readonly overlap?: number;
}

/**
 * The smallest budget that `splitIntoWindows` takes: room for a speaker and a few letters. A caller whose policy leaves
 * less than this of the model's context has a policy that is too long, and says so (PolicyError `policy-too-long`).
 */
export const smallestBudget = 16;

/**
 * Cuts a conversation that is longer than the budget into overlapping windows, in order, that together show all of it.
 *
 * - A conversation that fits is one window, its turns whole.
 * - A window ends after a message where it can, else after a sentence, else before a word, else between code points. A
 *   message or sentence is cut only where no such boundary lies in the later half of what fits (or, for sentences, in
 *   its last 4096 characters).
 * - It begins by repeating at most `overlap` of the budget, and at least half of that, from the same kinds of boundary.
 * - No window lies inside another. A window may hold no turn of the judged role, which is as it should be: what it shows
 *   may still be judged as context, and the turns of that role are in other windows.
 *
 * Where a window ends depends on what it shows and a few characters more: a conversation that grows keeps the windows
 * that it had, but for the last. Tokens are counted exactly, but only on texts of about a window's length, some ten times
 * a window.
 *
 * @throws OptionError `option-invalid` for a budget or an overlap out of range, or too small for one character
 */
export async function splitIntoWindows<T extends Turn>(
  turns: readonly T[],
  options: WindowOptions,
): Promise<Piece<T>[][]> {
  const { countTokens, budget, overlap = 0.25 } = options;
  if (!(budget >= smallestBudget)) {
    throw new OptionError(
      'option-invalid',
      `a window needs a budget of ${smallestBudget} tokens or more, not ${budget}`,
    );
  }
  if (!(overlap >= 0 && overlap <= 0.5)) {
    throw new OptionError('option-invalid', `the overlap of windows is from 0 to 0.5 of the budget, not ${overlap}`);
  }
  if (turns.length === 0) return [[]];
  const track = new Track(turns);
  const tokens = (from: number, to: number) => countTokens(track.slice(track.alignDown(from), track.alignDown(to)));

  const windows: Piece<T>[][] = [];
  let from = 0;
  let shown = 0;
  let usualLength = 3 * budget;
  for (;;) {
    let to = await windowEnd(from);
    if (to <= shown && from < shown) {
      // The repeated part left no room for anything new.
      from = shown;
      to = await windowEnd(from);
    }
    if (to <= shown) {
      throw new OptionError(
        'option-invalid',
        `a budget of ${budget} tokens does not hold one character of the conversation`,
      );
    }
    windows.push(track.slice(from, to));
    if (to === track.length) return windows;
    shown = to;
    usualLength = to - from;
    from = await nextStart(from, to);
  }

  /** The best end of a window that begins at `start`; `shown` or less if nothing new fits. */
  async function windowEnd(start: number): Promise<number> {
    let limit = track.length - start;
    while (limit > 0) {
      const longest = await longestFit((length) => tokens(start, start + length), {
        limit,
        budget,
        guess: usualLength,
      });
      const earliest = Math.max(shown + 1, start + Math.ceil(longest / 2));
      if (start + longest < earliest) return shown;
      const end = track.lastBoundary(earliest, start + longest);
      if (end <= shown) return shown;
      // Cutting inside a word can turn one token into several, so that the shorter text is, rarely, the one that is too long.
      if ((await tokens(start, end)) <= budget) return end;
      limit = end - 1 - start;
    }
    return shown;
  }

  async function nextStart(start: number, end: number): Promise<number> {
    // Half a window at most, so that each window begins after the one before it.
    const limit = Math.floor((end - start) / 2);
    const share = {
      budget: overlap * budget,
      enough: 0.85 * overlap * budget,
      guess: Math.round(overlap * (end - start)),
    };
    const repeated = await longestFit((length) => tokens(end - length, end), { limit, ...share });
    return track.firstBoundary(end - repeated, end - Math.floor(repeated / 2));
  }
}

/**
 * The longest length up to `limit` whose tokens fit into `budget`; or one that takes `enough` of them, where less will
 * do. Tokens grow about as the length does, so scaling the last length lands near it, and what is between the longest
 * that fits and the shortest that does not is halved at least every other time.
 */
async function longestFit(
  tokensOf: (length: number) => Promise<number>,
  { limit, budget, guess, enough = budget }: Record<'limit' | 'budget' | 'guess', number> & { enough?: number },
): Promise<number> {
  let fits = 0;
  let tooLong = limit + 1;
  let length = Math.min(limit, Math.max(1, guess));
  for (let turn = 0; tooLong - fits > 1; turn++) {
    const count = await tokensOf(length);
    if (count > budget) tooLong = length;
    else {
      fits = length;
      if (count >= enough && enough < budget) break;
    }
    const scaled = count === 0 ? 4 * length : Math.floor((budget * length) / count);
    const halved = tooLong > limit ? 4 * length : Math.floor((fits + tooLong) / 2);
    const next = turn % 2 === 0 || tooLong > limit ? Math.min(scaled, 4 * length) : halved;
    length = Math.min(Math.max(next, fits + 1), tooLong - 1);
  }
  return fits;
}

/** How far a sentence or word boundary is looked for: Intl.Segmenter takes time that grows with the square of a text. */
const reach = 4096;

/** The text on either side that a boundary's place may depend on. */
const segmentationContext = 64;

/**
 * A conversation laid out along one axis: each turn takes its text's UTF-16 units and one position more, so that an empty
 * turn has a place, too, and a cut between two turns is a position of its own.
 */
class Track<T extends Turn> {
  readonly length: number;
  readonly #turns: readonly T[];
  /** Where each turn begins. */
  readonly #starts: readonly number[];
  readonly #sentences = new Intl.Segmenter('en', { granularity: 'sentence' });
  readonly #words = new Intl.Segmenter('en', { granularity: 'word' });

  constructor(turns: readonly T[]) {
    let length = 0;
    this.#turns = turns;
    this.#starts = turns.map(({ text }) => {
      const start = length;
      length += text.length + 1;
      return start;
    });
    this.length = length;
  }

  /** The turns between two positions, the outer ones cut. A turn of which only the end would be left is not shown. */
  slice(from: number, to: number): Piece<T>[] {
    const slice: Piece<T>[] = [];
    for (let index = this.#turnAt(from); index < this.#turns.length && this.#starts[index]! < to; index++) {
      const turn = this.#turns[index]!;
      const start = this.#starts[index]!;
      const offset = Math.max(0, from - start);
      const text = turn.text.slice(offset, to - start);
      if (text !== '' || turn.text === '') slice.push({ ...turn, text, offset });
    }
    return slice;
  }

  /** The latest boundary of the best kind in `[earliest, latest]`; the end of a turn that is all there counts as well. */
  lastBoundary(earliest: number, latest: number): number {
    const turn = this.#turnAt(latest);
    const start = this.#starts[turn]!;
    const end = start + this.#turns[turn]!.text.length;
    if (latest > end || (latest === end && end > start)) return end + 1;
    if (start >= earliest) return start;
    return this.#inside(turn, Math.max(earliest, latest - reach), latest).at(-1) ?? this.alignDown(latest);
  }

  /** The earliest boundary of the best kind in `[earliest, latest]`. */
  firstBoundary(earliest: number, latest: number): number {
    const turn = this.#turnAt(earliest);
    const start = this.#starts[turn]!;
    if (start === earliest) return start;
    const end = start + this.#turns[turn]!.text.length;
    if (end < latest || earliest >= end) return end + 1;
    const inside = this.#inside(turn, earliest, Math.min(latest, earliest + reach));
    return inside[0] ?? (this.alignDown(earliest) === earliest ? earliest : earliest + 1);
  }

  /** The position itself, or the one before it where it would part a surrogate pair. */
  alignDown(position: number): number {
    const turn = this.#turnAt(position);
    const { text } = this.#turns[turn]!;
    const offset = position - this.#starts[turn]!;
    return offset > 0 && text.codePointAt(offset - 1)! > 0xffff ? position - 1 : position;
  }

  /** The sentence boundaries of a turn within `[earliest, latest]`, or the word boundaries where there are none. */
  #inside(turn: number, earliest: number, latest: number): number[] {
    const start = this.#starts[turn]!;
    const from = this.alignDown(Math.max(start, earliest - segmentationContext));
    const to = this.alignDown(latest + segmentationContext);
    const text = this.#turns[turn]!.text.slice(from - start, to - start);
    const within = (segments: Iterable<Intl.SegmentData>) =>
      Array.from(segments, ({ index }) => from + index).filter((at) => at >= earliest && at <= latest);
    const sentences = within(this.#sentences.segment(text));
    if (sentences.length > 0) return sentences;
    // Before a word, so that punctuation and spaces stay with the word that they follow.
    return within(Array.from(this.#words.segment(text)).filter(({ isWordLike }) => isWordLike));
  }

  /** The turn that a position lies in; the last one for the position after it. */
  #turnAt(position: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= position) low = middle;
      else high = middle;
    }
    return low;
  }
}
