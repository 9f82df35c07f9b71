/** What byte-pair encoding learns: pieces, and of which two each was made. */
export interface TrainedPieces {
  /** Those that were there first, then what merges made. */
  readonly pieces: readonly string[];
  readonly merges: readonly (readonly [left: string, right: string])[];
}

export interface TrainingOptions {
  /** How often each word occurs; a word is its symbols. */
  readonly words: ReadonlyMap<readonly string[], number>;
  /** The pieces that words are made of. */
  readonly alphabet: readonly string[];
  /** All pieces, the alphabet's among them. */
  readonly count: number;
  /** Whether two pieces may be one where words teach nothing any more; any two unless told. */
  readonly joins?: (left: string, right: string) => boolean;
}

/** Made-up pieces are not longer than this. */
const longestMadeUp = 24;

/**
 * Trains byte-pair encoding: time and again the neighbours that occur together most often become a piece, of equal ones
 * the first. Words that occur no more than once teach nothing: what is missing then is made up of pieces, so that a
 * vocabulary of any size comes of a few kilobytes.
 */
export function trainPieces({ words, alphabet, count, joins = () => true }: TrainingOptions): TrainedPieces {
  const pieces = [...alphabet];
  const idOf = new Map(pieces.map((piece, id) => [piece, id]));
  const merges: [string, string][] = [];
  /** Two merges may make the same piece. */
  const merge = (left: string, right: string): number => {
    merges.push([left, right]);
    const id = idOf.get(left + right) ?? pieces.push(left + right) - 1;
    idOf.set(left + right, id);
    return id;
  };

  const pairs = new Pairs([...words].map(([word, times]) => ({ ids: word.map((symbol) => idOf.get(symbol)!), times })));
  for (let best = pairs.best(); best && pieces.length < count; best = pairs.best()) {
    pairs.merge(best, merge(pieces[best[0]]!, pieces[best[1]]!));
  }
  for (let right = 0; pieces.length < count; right++) {
    for (let left = 0; left <= right && pieces.length < count; left++) {
      const [a, b] = [pieces[left]!, pieces[right]!];
      if (a.length + b.length <= longestMadeUp && joins(a, b) && !idOf.has(a + b)) merge(a, b);
    }
  }
  return { pieces, merges };
}

interface Word {
  ids: number[];
  readonly times: number;
}

/** Ids are below this. */
const many = 2 ** 21;

/** The neighbours in words, and how often each two of them occur. */
class Pairs {
  readonly #times = new Map<number, number>();
  readonly #words = new Map<number, Set<Word>>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.#count(word, 1);
  }

  /** The most frequent pair; undefined where none occurs twice. */
  best(): [left: number, right: number] | undefined {
    let found: number | undefined;
    let most = 1;
    for (const [pair, times] of this.#times) {
      if (times > most || (times === most && found !== undefined && pair < found)) [found, most] = [pair, times];
    }
    return found === undefined ? undefined : [Math.floor(found / many), found % many];
  }

  merge([left, right]: readonly [number, number], merged: number): void {
    for (const word of this.#words.get(left * many + right) ?? []) {
      this.#count(word, -1);
      const ids: number[] = [];
      for (let at = 0; at < word.ids.length; at++) {
        const pair = word.ids[at] === left && word.ids[at + 1] === right;
        ids.push(pair ? merged : word.ids[at]!);
        if (pair) at++;
      }
      word.ids = ids;
      this.#count(word, 1);
    }
  }

  #count(word: Word, sign: 1 | -1): void {
    for (let at = 1; at < word.ids.length; at++) {
      const pair = word.ids[at - 1]! * many + word.ids[at]!;
      const times = (this.#times.get(pair) ?? 0) + sign * word.times;
      if (times === 0) this.#times.delete(pair);
      else this.#times.set(pair, times);
      const words = this.#words.get(pair) ?? new Set();
      this.#words.set(pair, words);
      if (sign === 1) words.add(word);
    }
  }
}
