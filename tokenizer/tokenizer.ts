import { TokenizerError } from './errors.ts';

/**
 * Text to token ids and back.
 *
 * Text is only ever text: no string, not even `<s>` or `<0x0A>`, encodes to a control token. A prompt that begins with
 * BOS is `[tokenizer.bosId, ...tokenizer.encode(text)]`.
 */
export interface Tokenizer extends Disposable {
  /** Number of pieces; valid ids are 0 up to, not including, this. */
  readonly vocabularySize: number;
  /** Beginning of sequence. */
  readonly bosId: number;
  /** End of sequence. */
  readonly eosId: number;
  /** What a character becomes that no piece and no byte token can express. */
  readonly unknownId: number;

  /**
   * The ids of `text`, with no BOS in front and no EOS behind; `[]` for the empty string. Lone surrogates count as
   * U+FFFD, as everywhere that JavaScript writes UTF-8.
   *
   * @throws {TokenizerError} `text-too-long`, `tokenizer-failed`, `disposed`
   * @throws {TypeError} if `text` is not a string
   */
  encode(text: string): number[];

  /** `encode` of each text, in order; a text's ids do not depend on its neighbours. */
  encodeMany(texts: readonly string[]): number[][];

  /** `encode(text).length`, without the array. */
  count(text: string): number;

  /**
   * The text of `ids`. Control tokens are invisible; byte tokens are joined into UTF-8 across ids, and each byte that
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

  /** The id of a piece spelled as in the vocabulary, control pieces included. Not a way to encode text. */
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
        'use the tokenizer.model that came with this model',
    );
  }
}
