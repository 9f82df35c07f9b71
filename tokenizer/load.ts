import { TokenizerError } from './errors.ts';
import { MAX_MODEL_BYTES } from './model-proto.ts';
import { SentencePieceTokenizer } from './sentencepiece.ts';
import type { Tokenizer } from './tokenizer.ts';

/** The folder that a tokenizer is read from, wherever it lies. */
export interface TokenizerFolder {
  /** What messages call it. */
  readonly location: string;
  /** What messages call one of its files. */
  locate(name: string): string;
  /** A file's bytes; undefined where there is no such file. @throws RangeError where it has more than `maxBytes` */
  read(name: string, maxBytes: number): Promise<Uint8Array | undefined>;
}

/**
 * The tokenizer of a model folder: its `tokenizer.model` (SentencePiece).
 *
 * @throws {TokenizerError} `tokenizer-not-found` if the folder has none that is supported, `tokenizer-invalid` if the
 * file is not a usable model; the message names the file
 */
export async function tokenizerIn(folder: TokenizerFolder): Promise<Tokenizer> {
  const path = folder.locate('tokenizer.model');
  const bytes = await read(folder, 'tokenizer.model');
  if (!bytes) throw await notFound(folder);
  try {
    return await SentencePieceTokenizer.fromBytes(bytes);
  } catch (cause) {
    if (!(cause instanceof TokenizerError)) throw cause;
    throw new TokenizerError(cause.code, `${path}: ${cause.message}`, { cause });
  }
}

async function read(folder: TokenizerFolder, name: string): Promise<Uint8Array | undefined> {
  try {
    return await folder.read(name, MAX_MODEL_BYTES);
  } catch (cause) {
    const code = cause instanceof RangeError ? 'tokenizer-invalid' : 'tokenizer-not-found';
    throw new TokenizerError(code, `${folder.locate(name)}: ${(cause as Error).message}`, { cause });
  }
}

async function notFound(folder: TokenizerFolder): Promise<TokenizerError> {
  const json = await read(folder, 'tokenizer.json');
  const message =
    json === undefined
      ? `${folder.location} has no tokenizer.model (SentencePiece), which this model folder needs`
      : `${folder.locate('tokenizer.json')} (Hugging Face tokenizers) is not supported yet; put the tokenizer.model (SentencePiece) of the same model beside it`;
  return new TokenizerError('tokenizer-not-found', message);
}
