import { TokenizerError } from './errors.ts';
import { type Piece, PieceType, type SentencePieceModel } from './model-proto.ts';
import { decodeUtf8 } from './utf8.ts';

/** How SentencePiece writes a space inside a piece: U+2581, LOWER ONE EIGHTH BLOCK. */
const SPACE_SYMBOL = '\u2581';

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
