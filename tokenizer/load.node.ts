import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { TokenizerError } from './errors.ts';
import { invalid, MAX_MODEL_BYTES } from './model-proto.ts';
import { SentencePieceTokenizer } from './sentencepiece.ts';
import type { Tokenizer } from './tokenizer.ts';

/**
 * Loads the tokenizer of a model folder: its `tokenizer.model` (SentencePiece).
 *
 * @throws {TokenizerError} `tokenizer-not-found` if the folder has none that is supported, `tokenizer-invalid` if the
 * file is not a usable model; the message names the file
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const path = join(folder, 'tokenizer.model');
  const size = await fileSize(path);
  if (size === undefined) throw await notFound(folder);
  try {
    if (size > MAX_MODEL_BYTES) throw invalid(`it has ${size} bytes, more than ${MAX_MODEL_BYTES}`);
    return await SentencePieceTokenizer.fromBytes(await readFile(path));
  } catch (cause) {
    if (cause instanceof TokenizerError) throw new TokenizerError(cause.code, `${path}: ${cause.message}`, { cause });
    throw new TokenizerError('tokenizer-not-found', `${path} cannot be read`, { cause });
  }
}

/** The size of a regular file; `undefined` for whatever else the path may be. */
async function fileSize(path: string): Promise<number | undefined> {
  try {
    const entry = await stat(path);
    return entry.isFile() ? entry.size : undefined;
  } catch {
    return undefined;
  }
}

async function notFound(folder: string): Promise<TokenizerError> {
  const json = join(folder, 'tokenizer.json');
  const message =
    (await fileSize(json)) === undefined
      ? `${folder} has no tokenizer.model (SentencePiece), which this model folder needs`
      : `${json} (Hugging Face tokenizers) is not supported yet; put the tokenizer.model (SentencePiece) of the same model beside it`;
  return new TokenizerError('tokenizer-not-found', message);
}
