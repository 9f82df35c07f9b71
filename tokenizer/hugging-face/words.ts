import type { Merges } from './merges.ts';
import type { Pipeline } from './pipeline.ts';
import { spaceSymbol } from './schema.ts';
import { byteLetters, type Vocabulary } from './vocabulary.ts';

/** Words that are kept with their ids: most of a prompt is the same each time. */
const keptWords = 2 ** 14;
const longestKept = 64;

const utf8 = new TextEncoder();
/** A piece that holds the end of a word and the space before the next. */
const gluesWords = new RegExp(`[^${spaceSymbol}]${spaceSymbol}`);
/** A run of spaces goes with what follows it. */
const atSpaces = new RegExp(`${spaceSymbol}*[^${spaceSymbol}]+|${spaceSymbol}+`, 'g');

/** Words to ids. */
export class Words {
  readonly #vocabulary: Vocabulary;
  readonly #merges: Merges;
  readonly #symbols: Pipeline['symbols'];
  readonly #wholeFirst: boolean;
  /** Whether texts are cut at spaces first. */
  readonly #cuts: boolean;
  readonly #kept = new Map<string, readonly number[]>();

  /** @param wholeFirst whether a word that is a piece is that piece, merged or not: `ignore_merges` */
  constructor(vocabulary: Vocabulary, merges: Merges, symbols: Pipeline['symbols'], wholeFirst: boolean) {
    this.#vocabulary = vocabulary;
    this.#merges = merges;
    this.#symbols = symbols;
    this.#wholeFirst = wholeFirst;
    // SentencePiece's words are whole texts. Where nothing is merged across the beginning of a word, ids are the same.
    const glues = () => [...vocabulary.textIds.keys()].some((piece) => gluesWords.test(piece));
    this.#cuts = symbols === 'characters' && !wholeFirst && !glues();
  }

  /** The ids of a word, in as many parts as can be looked up by themselves. */
  *idsOf(word: string): Generator<readonly number[]> {
    if (!this.#cuts) yield this.#lookUp(word);
    else for (const [part] of word.matchAll(atSpaces)) yield this.#lookUp(part);
  }

  #lookUp(word: string): readonly number[] {
    const kept = this.#kept.get(word);
    if (kept) return kept;
    const ids = this.#symbols === 'bytes' ? this.#ofBytes(word) : this.#ofCharacters(word);
    if (word.length <= longestKept) {
      if (this.#kept.size >= keptWords) this.#kept.clear();
      this.#kept.set(word, ids);
    }
    return ids;
  }

  #ofBytes(word: string): readonly number[] {
    const { textIds, bytes: byteIds } = this.#vocabulary;
    const bytes = Array.from(utf8.encode(word));
    const whole = this.#wholeFirst ? textIds.get(bytes.map((byte) => byteLetters[byte]!).join('')) : undefined;
    return whole === undefined ? this.#merges.apply(bytes.map((byte) => byteIds[byte]!)) : [whole];
  }

  #ofCharacters(word: string): readonly number[] {
    const { textIds, bytes: byteIds } = this.#vocabulary;
    const whole = this.#wholeFirst ? textIds.get(word) : undefined;
    if (whole !== undefined) return [whole];
    const symbols: number[] = [];
    for (const character of word) {
      const id = textIds.get(character);
      if (id !== undefined) symbols.push(id);
      else for (const byte of utf8.encode(character)) symbols.push(byteIds[byte]!);
    }
    return this.#merges.apply(symbols);
  }
}
