import { TokenizerError } from '../errors.ts';
import { AddedTokens, encodePieces, type PromptPart } from '../prompt.ts';
import type { Tokenizer } from '../tokenizer.ts';
import { encodeUtf8 } from '../utf8.ts';
import { decodeIds, pieceAt } from './decode.ts';
import { Merges } from './merges.ts';
import { openPipeline, type Pipeline } from './pipeline.ts';
import { check, invalid, readJson, unsupported } from './read-json.ts';
import { tokenizerJson, workings } from './schema.ts';
import { gatherAdded, type HuggingFaceFiles, type Roles, readRoles, readSettings } from './settings.ts';
import { readVocabulary, type Vocabulary } from './vocabulary.ts';
import { Words } from './words.ts';

const file = 'tokenizer.json';

/** What a tokenizer is made of. */
interface Parts extends Roles {
  readonly vocabulary: Vocabulary;
  readonly pipeline: Pipeline;
  readonly words: Words;
}

/**
 * A `tokenizer.json` of byte-pair encoding, on bytes (Llama 3, Qwen) or on SentencePiece's characters (Mistral, Llama 2),
 * giving the ids of Hugging Face's tokenizers, but that a text is only ever text: it runs without added tokens, which are
 * known by name and found in frames.
 *
 * It runs in Node.js and in a page. Where the file asks for it (Qwen), characters are composed before they are encoded:
 * decoding gives the composed text back.
 */
export class HuggingFaceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly unknownId: number | undefined;
  readonly addedTokens: ReadonlyMap<string, number>;
  readonly #added: AddedTokens;
  /** Undefined after disposal. */
  #parts: Parts | undefined;

  private constructor(parts: Parts) {
    const added = [...parts.vocabulary.added.values()];
    this.vocabularySize = parts.vocabulary.pieces.length;
    this.bosId = parts.bosId;
    this.eosId = parts.eosId;
    this.unknownId = parts.unknownId;
    this.addedTokens = new Map(added.map(({ content, id }) => [content, id]));
    this.#added = new AddedTokens(added, (why) => invalid(file, undefined, why));
    this.#parts = parts;
  }

  /** @throws {TokenizerError} `tokenizer-invalid`, `tokenizer-unsupported`; the message names file and field */
  static async fromFiles(files: HuggingFaceFiles): Promise<HuggingFaceTokenizer> {
    const json = readJson(file, files[file], tokenizerJson);
    const settings = readSettings(files);
    const work = check(file, json, workings, unsupported);
    const pipeline = await openPipeline(file, work);
    const vocabulary = readVocabulary(file, json.model, gatherAdded(json, settings, work), pipeline.symbols);
    const merges = new Merges(file, json.model.merges, vocabulary);
    const words = new Words(vocabulary, merges, pipeline.symbols, work.model.ignore_merges);
    return new HuggingFaceTokenizer({ vocabulary, pipeline, words, ...readRoles(vocabulary, settings, work) });
  }

  encode(text: string): number[] {
    return this.#encode(text, true);
  }

  encodePrompt(parts: readonly PromptPart[]): number[] {
    const { front } = this.#live();
    return encodePieces(this.#added.cut(parts), { front, encode: (text, atStart) => this.#encode(text, atStart) });
  }

  encodeMany(texts: readonly string[]): number[][] {
    return texts.map((text) => this.encode(text));
  }

  count(text: string): number {
    let count = 0;
    for (const ids of this.#idsOfWords(text, true)) count += ids.length;
    return count;
  }

  decode(ids: readonly number[]): string {
    const { vocabulary, pipeline } = this.#live();
    return decodeIds(vocabulary, pipeline, ids);
  }

  pieceOf(id: number): string {
    return pieceAt(this.#live().vocabulary, id);
  }

  idOf(piece: string): number | undefined {
    return this.#live().vocabulary.idOf.get(piece);
  }

  /** Forgets the vocabulary; a second call does nothing. */
  [Symbol.dispose](): void {
    this.#parts = undefined;
  }

  #encode(text: string, atStart: boolean): number[] {
    const all: number[] = [];
    for (const ids of this.#idsOfWords(text, atStart)) for (const id of ids) all.push(id);
    return all;
  }

  *#idsOfWords(text: string, atStart: boolean): Generator<readonly number[]> {
    const { pipeline, words } = this.#live();
    // For what it checks: the limit is one of bytes.
    encodeUtf8(text);
    if (text === '') return;
    for (const word of pipeline.split(text.toWellFormed(), atStart)) yield* words.idsOf(word);
  }

  #live(): Parts {
    if (!this.#parts) throw new TokenizerError('disposed', 'the tokenizer was used after its disposal');
    return this.#parts;
  }
}
