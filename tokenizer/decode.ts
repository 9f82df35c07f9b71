import { TokenizerError } from './errors.ts';
import { type Piece, PieceType, type SentencePieceModel } from './model-proto.ts';

/** How SentencePiece writes a space inside a piece: U+2581, LOWER ONE EIGHTH BLOCK. */
const SPACE_SYMBOL = '\u2581';
const REPLACEMENT = '\ufffd';

/**
 * The text of `ids`, equal to what the reference SentencePiece (0.1.97) decodes.
 *
 * Ours rather than the WebAssembly library's, whose JavaScript glue reads strings with a `TextDecoder` that swallows a
 * leading U+FEFF, and whose out-of-range ids decode to nothing without a word.
 *
 * @throws {TokenizerError} `token-out-of-range`
 */
export function decodeIds(model: SentencePieceModel, ids: readonly number[]): string {
  const stripsPrefix = model.addDummyPrefix || model.removeExtraWhitespaces;
  let text = '';
  let prefixStripped = false;
  let bytes: number[] = [];

  for (const id of ids) {
    const piece: Piece = pieceAt(model, id);
    if (piece.type === PieceType.byte) {
      bytes.push(Number.parseInt(piece.text.slice(3, 5), 16));
      continue;
    }
    text += decodeUtf8(bytes);
    bytes = [];
    if (piece.type === PieceType.control) continue;
    if (piece.type === PieceType.unknown) {
      text += model.unknownSurface;
      continue;
    }
    const atStart: boolean = text === '' && !prefixStripped;
    const strip: boolean = stripsPrefix && atStart && piece.text.startsWith(SPACE_SYMBOL);
    // The dummy prefix is one space; where extra whitespace was removed, none of the leading spaces is the text's own.
    prefixStripped ||= strip && !model.removeExtraWhitespaces;
    text += (strip ? piece.text.slice(1) : piece.text).replaceAll(SPACE_SYMBOL, ' ');
  }
  return text + decodeUtf8(bytes);
}

/** The piece of an id. @throws {TokenizerError} `token-out-of-range` */
export function pieceAt(model: SentencePieceModel, id: number): Piece {
  const piece = model.pieces[id];
  if (piece === undefined) {
    throw new TokenizerError(
      'token-out-of-range',
      `token id ${String(id)} does not exist; the tokenizer has the ids 0 to ${model.pieces.length - 1}`,
    );
  }
  return piece;
}

/**
 * UTF-8 to text, one U+FFFD for each byte that no well-formed character claims. `TextDecoder` would write one for each
 * maximal subpart (E2 82 gives one, not two) and so differ from the reference.
 */
function decodeUtf8(bytes: readonly number[]): string {
  let text = '';
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes[at]!);
    const codePoint = codePointAt(bytes, at, length);
    text += codePoint === undefined ? REPLACEMENT : String.fromCodePoint(codePoint);
    at += codePoint === undefined ? 1 : length;
  }
  return text;
}

/** How many bytes the character takes that begins with `lead`; 0 where none begins so. */
function sequenceLength(lead: number): number {
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** The character of `length` bytes at `at`, or `undefined` if it is cut short, overlong, a surrogate or past U+10FFFF. */
function codePointAt(bytes: readonly number[], at: number, length: number): number | undefined {
  if (length === 0 || at + length > bytes.length) return undefined;
  if (length === 1) return bytes[at]!;
  let codePoint = bytes[at]! & (0x7f >> length);
  for (let offset = 1; offset < length; offset++) {
    const byte = bytes[at + offset]!;
    if ((byte & 0xc0) !== 0x80) return undefined;
    codePoint = (codePoint << 6) | (byte & 0x3f);
  }
  const smallest = length === 2 ? 0x80 : length === 3 ? 0x800 : 0x10000;
  const isSurrogate = codePoint >= 0xd800 && codePoint <= 0xdfff;
  return codePoint < smallest || isSurrogate || codePoint > 0x10ffff ? undefined : codePoint;
}
