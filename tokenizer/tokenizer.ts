// For programs whose own libraries have no Disposable, since ES2022 has none: the declarations carry it along.
/// <reference lib="esnext.disposable" preserve="true" />

import { TokenizerError } from './errors.ts';
import type { PromptPart } from './prompt.ts';

/**
 * Text to token ids and back.
 *
 * Text is only ever text: no string, not even `<s>`, `<0x0A>` or `<|eot_id|>`, encodes to a control token or to another
 * added token. Those come into a prompt by its frame alone, through `encodePrompt`.
 */
export interface Tokenizer extends Disposable {
  /** What its file is: a SentencePiece model, or byte-pair encoding as Hugging Face writes it. */
  readonly kind: 'tokenizer.model' | 'tokenizer.json';
  /** Valid ids are 0 up to, not including, this; a tokenizer.json may leave some of them out. */
  readonly vocabularySize: number;
  /** Beginning of sequence; Qwen's tokenizers have none. */
  readonly bosId: number | undefined;
  /** End of sequence. */
  readonly eosId: number | undefined;
  /** What a character becomes that no piece and no byte token can express. Of bytes there is none that is unknown. */
  readonly unknownId: number | undefined;
  /** The ids of the tokens that no text is encoded to, by how a prompt's frame spells them. */
  readonly addedTokens: ReadonlyMap<string, number>;

  /**
   * The ids of `text`, with no BOS in front and no EOS behind; `[]` for the empty string. Lone surrogates count as
   * U+FFFD, as everywhere that JavaScript writes UTF-8.
   *
   * @throws {TokenizerError} `text-too-long`, `tokenizer-failed`, `disposed`
   * @throws {TypeError} if `text` is not a string
   */
  encode(text: string): number[];

  /**
   * The ids of a prompt, with BOS in front where the tokenizer puts it there and the frame does not spell it. Added tokens
   * that the frame spells (`<|start_header_id|>`, `<|im_end|>`, `<s>`) are those tokens; all between two of them is one
   * text, and so merges across the seams of frame and messages. In messages no token is read.
   *
   * @throws {TokenizerError} `text-too-long`, `tokenizer-failed`, `disposed`
   */
  encodePrompt(parts: readonly PromptPart[]): number[];

  /** `encode` of each text, in order; a text's ids do not depend on its neighbours. */
  encodeMany(texts: readonly string[]): number[][];

  /** `encode(text).length`, without the array. */
  count(text: string): number;

  /**
   * The text of `ids`. Control tokens, those that a tokenizer.json calls special, are invisible; byte tokens are joined into UTF-8 across ids, and each byte that
   * does not belong to a well-formed character becomes one U+FFFD.
   *
   * @throws {TokenizerError} `token-out-of-range`, `disposed`
   */
  decode(ids: readonly number[]): string;

  /**
   * The piece behind an id as the vocabulary spells it, e.g. `▁safe` (`▁`, U+2581, is a space).
   *
   * @throws {TokenizerError} `token-out-of-range`, `disposed`
   */
  pieceOf(id: number): string;

  /** The id of a piece spelled as in the vocabulary, added tokens included. Not a way to encode text. */
  idOf(piece: string): number | undefined;
}

/**
 * Checks that a model has a row for every token. A model may have more rows than the tokenizer has pieces (padding);
 * the reverse would read past the embedding.
 *
 * @throws {TokenizerError} `tokenizer-mismatch`
 */
export function assertFits(tokenizer: Pick<Tokenizer, 'vocabularySize'>, vocabularySize: number): void {
  if (tokenizer.vocabularySize > vocabularySize) {
    throw new TokenizerError(
      'tokenizer-mismatch',
      `the tokenizer has ${tokenizer.vocabularySize} pieces but the model's vocabulary has only ${vocabularySize} rows; ` +
        'use the tokenizer that came with this model',
    );
  }
}
