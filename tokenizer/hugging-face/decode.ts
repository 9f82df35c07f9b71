import { TokenizerError } from '../errors.ts';
import { decodeUtf8 } from '../utf8.ts';
import type { Pipeline } from './pipeline.ts';
import { spaceSymbol } from './schema.ts';
import { byteLetters, type Vocabulary } from './vocabulary.ts';

const byteOfLetter = new Map(byteLetters.map((letter, byte) => [letter, byte]));

/**
 * The text of `ids`. Special tokens are invisible, other added tokens are their spelling.
 *
 * Ours rather than the library's, which swallows a leading U+FEFF, and looks through all added tokens for each id.
 *
 * @throws {TokenizerError} `token-out-of-range`
 */
export function decodeIds(vocabulary: Vocabulary, pipeline: Pipeline, ids: readonly number[]): string {
  let text = '';
  let bytes: number[] = [];
  for (const id of ids) {
    const surface = surfaceOf(vocabulary, pipeline, id);
    if (typeof surface !== 'string') {
      for (const byte of surface) bytes.push(byte);
      continue;
    }
    text += decodeUtf8(bytes) + surface;
    bytes = [];
  }
  text += decodeUtf8(bytes);
  return pipeline.stripsSpace && text.startsWith(' ') ? text.slice(1) : text;
}

/** The piece of an id. @throws {TokenizerError} `token-out-of-range` */
export function pieceAt({ pieces }: Vocabulary, id: number): string {
  const piece = pieces[id];
  if (piece === undefined) {
    throw new TokenizerError(
      'token-out-of-range',
      `token id ${String(id)} does not exist; the tokenizer has the ids 0 to ${pieces.length - 1}`,
    );
  }
  return piece;
}

/** What an id shows: text, or bytes of it. */
function surfaceOf(vocabulary: Vocabulary, { symbols }: Pipeline, id: number): string | readonly number[] {
  const piece = pieceAt(vocabulary, id);
  const added = vocabulary.added.get(id);
  if (added) return added.special ? '' : piece;
  if (symbols === 'characters') {
    const byte = vocabulary.byteOf.get(id);
    return byte === undefined ? piece.replaceAll(spaceSymbol, ' ') : [byte];
  }
  const bytes = Array.from(piece, (letter) => byteOfLetter.get(letter));
  // A piece that no bytes lead to says what it is.
  return bytes.includes(undefined) ? piece : (bytes as number[]);
}
