import { quote } from '../../kernels/json.ts';
import type { AddedToken } from '../prompt.ts';
import type { Pipeline } from './pipeline.ts';
import { invalid } from './read-json.ts';
import type { TokenizerJson } from './schema.ts';

/** Ids and ranks of merges are below this, so that a pair of ids is one exact number. Gemma has 262,144 pieces. */
export const ID_LIMIT = 2 ** 21;

/** A token that frames spell; `special` ones are invisible in decoded text. */
export interface SpecialToken extends AddedToken {
  readonly special: boolean;
}

export interface Vocabulary {
  /** By id; those that a file leaves out are not there. */
  readonly pieces: readonly (string | undefined)[];
  readonly idOf: ReadonlyMap<string, number>;
  readonly added: ReadonlyMap<number, SpecialToken>;
  /** What text may become: neither added tokens nor bytes by name. */
  readonly textIds: ReadonlyMap<string, number>;
  /** The id of each byte. */
  readonly bytes: readonly number[];
  readonly byteOf: ReadonlyMap<number, number>;
}

/** How GPT-2 writes bytes: printable ones of Latin-1 as themselves, the others as what follows U+0100. */
export const byteLetters: readonly string[] = (() => {
  const prints = (byte: number) => (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
  let others = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(prints(byte) ? byte : 0x100 + others++));
})();

/** How SentencePiece does: `<0x0A>`. */
export const byteNames = byteLetters.map((_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);

/**
 * @param added the file's own added tokens and those that lie beside it; their ids are theirs alone
 * @throws {TokenizerError} `tokenizer-invalid`
 */
export function readVocabulary(
  file: string,
  { vocab }: Pick<TokenizerJson['model'], 'vocab'>,
  added: readonly SpecialToken[],
  symbols: Pipeline['symbols'],
): Vocabulary {
  const idOf = new Map<string, number>();
  const pieces: (string | undefined)[] = [];
  const place = (piece: string, id: unknown, field: string) => {
    if (!(Number.isInteger(id) && (id as number) >= 0 && (id as number) < ID_LIMIT)) {
      throw invalid(file, field, `must be a whole number from 0 to ${ID_LIMIT - 1}, but is ${quote(id)}`);
    }
    const other = pieces[id as number];
    if (other !== undefined && other !== piece)
      throw invalid(file, field, `is ${id}, which is ${quote(other)} already`);
    pieces[id as number] = piece;
    idOf.set(piece, id as number);
  };
  for (const [piece, id] of Object.entries(vocab)) {
    if (!piece.isWellFormed()) throw invalid(file, 'model.vocab', `has a piece that is no text: ${quote(piece)}`);
    place(piece, id, `model.vocab[${quote(piece)}]`);
  }
  for (const { content, id } of added) {
    const known = idOf.get(content);
    const field = `added_tokens: ${content}`;
    if (known !== undefined && known !== id) throw invalid(file, field, `is ${id} and ${known}`);
    place(content, id, field);
  }

  const textIds = new Map(idOf);
  for (const { content } of added) textIds.delete(content);
  const names = symbols === 'bytes' ? byteLetters : byteNames;
  const bytes = names.map((name, byte) => {
    const id = textIds.get(name);
    if (id === undefined) throw invalid(file, 'model.vocab', `has no piece ${quote(name)} for the byte ${byte}`);
    return id;
  });
  // Text that spells the name of a byte is not that byte.
  if (symbols === 'characters') for (const name of byteNames) textIds.delete(name);
  return {
    pieces,
    idOf,
    added: new Map(added.map((token) => [token.id, token])),
    textIds,
    bytes,
    byteOf: new Map(bytes.map((id, byte) => [id, byte])),
  };
}
