import { decodeIds, pieceAt } from './decode.ts';
import { invalid, PieceType, parseSentencePieceModel, type SentencePieceModel } from './model-proto.ts';
import { AddedTokens, encodePieces, type PromptPart } from './prompt.ts';
import { SentencePieceRuntime } from './runtime.ts';
import type { Tokenizer } from './tokenizer.ts';
import { encodeUtf8 } from './utf8.ts';

export interface SentencePieceOptions {
  /** Whether prompts begin with BOS: `add_bos_token` of a tokenizer_config.json. They do unless told. */
  readonly addsBos?: boolean;
}

/**
 * A SentencePiece `tokenizer.model` (BPE or unigram), giving the ids of the reference implementation. The added tokens of
 * frames are its control pieces; a text behind one of them begins like any text, with the dummy space, as Meta's code for
 * Llama 2 puts prompts together.
 *
 * It runs in Node.js and in a page; a bundler for the page has to stand an empty module in for `fs`, `url` and `module`,
 * which `sentencepiece-js` requires and does not need here.
 */
export class SentencePieceTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly unknownId: number;
  readonly addedTokens: ReadonlyMap<string, number>;
  readonly #model: SentencePieceModel;
  readonly #runtime: SentencePieceRuntime;
  readonly #added: AddedTokens;
  readonly #front: number | undefined;

  private constructor(model: SentencePieceModel, runtime: SentencePieceRuntime, addsBos: boolean) {
    const control = model.pieces.flatMap(({ text, type }, id) =>
      type === PieceType.control ? [{ content: text, id }] : [],
    );
    this.vocabularySize = model.pieces.length;
    this.bosId = model.bosId;
    this.eosId = model.eosId;
    this.unknownId = model.unknownId;
    this.addedTokens = new Map(control.map(({ content, id }) => [content, id]));
    this.#added = new AddedTokens(control, (why) => invalid(`it ${why}`));
    this.#front = addsBos ? model.bosId : undefined;
    this.#model = model;
    this.#runtime = runtime;
  }

  /**
   * Loads a tokenizer from the bytes of a `tokenizer.model`. The bytes are copied.
   *
   * @throws {TokenizerError} `tokenizer-invalid`, `tokenizer-failed`
   * @throws {TypeError} if `bytes` is not a `Uint8Array`
   */
  static async fromBytes(
    bytes: Uint8Array,
    { addsBos = true }: SentencePieceOptions = {},
  ): Promise<SentencePieceTokenizer> {
    // Not `instanceof`, which is false for the bytes of another realm.
    if (Object.prototype.toString.call(bytes) !== '[object Uint8Array]')
      throw new TypeError(`expected a Uint8Array, got ${typeof bytes}`);
    const model = parseSentencePieceModel(bytes);
    return new SentencePieceTokenizer(model, await SentencePieceRuntime.start(bytes), addsBos);
  }

  encode(text: string): number[] {
    return this.#runtime.encode(this.#toUtf8(text));
  }

  encodePrompt(parts: readonly PromptPart[]): number[] {
    this.#runtime.assertLive();
    return encodePieces(this.#added.cut(parts), { front: this.#front, encode: (text) => this.encode(text) });
  }

  encodeMany(texts: readonly string[]): number[][] {
    return texts.map((text) => this.encode(text));
  }

  count(text: string): number {
    return this.#runtime.count(this.#toUtf8(text));
  }

  decode(ids: readonly number[]): string {
    this.#runtime.assertLive();
    return decodeIds(this.#model, ids);
  }

  pieceOf(id: number): string {
    this.#runtime.assertLive();
    return pieceAt(this.#model, id).text;
  }

  idOf(piece: string): number | undefined {
    this.#runtime.assertLive();
    return this.#model.idOfPiece.get(piece);
  }

  /** Bytes of WebAssembly heap that this tokenizer holds; it grows with the longest text and does not shrink. */
  get heapBytes(): number {
    return this.#runtime.heapBytes;
  }

  /** Frees the model in WebAssembly; a second call does nothing. */
  [Symbol.dispose](): void {
    this.#runtime[Symbol.dispose]();
  }

  #toUtf8(text: string): Uint8Array {
    this.#runtime.assertLive();
    return encodeUtf8(text);
  }
}
