import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject, parseJson } from '../kernels/json.ts';
import { TokenizerError } from './errors.ts';
import type { Tokenizer } from './tokenizer.ts';

/** Beyond the largest tokenizers there are; a file of more bytes is not read. */
const maxBytes = 64 * 2 ** 20;

/**
 * Loads the tokenizer of a model folder: its `tokenizer.json` (Hugging Face), else its `tokenizer.model` (SentencePiece).
 *
 * Where there are both, tokenizer.json tells more: which tokens a frame may spell, and how text goes on behind one. Of
 * text they make the same ids (docs/decisions/0019). One that asks for what is not computed here gives way to the other.
 *
 * @throws {TokenizerError} `tokenizer-not-found` if the folder has none, `tokenizer-invalid` if a file is broken,
 * `tokenizer-unsupported` if it asks for what is not computed here; the message names the file
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const hasJson = await isFile(join(folder, 'tokenizer.json'));
  const hasModel = await isFile(join(folder, 'tokenizer.model'));
  if (!hasJson && !hasModel) {
    throw new TokenizerError(
      'tokenizer-not-found',
      `${folder} has neither a tokenizer.json nor a tokenizer.model (SentencePiece): put the one of the same model there`,
    );
  }
  try {
    return await (hasJson ? loadHuggingFace(folder) : loadSentencePiece(folder));
  } catch (error) {
    const givesWay = hasModel && error instanceof TokenizerError && error.code === 'tokenizer-unsupported';
    if (givesWay) return loadSentencePiece(folder);
    throw error;
  }
}

// Each kind is imported on use: most folders need one, and they bring hundreds of kilobytes.

async function loadHuggingFace(folder: string): Promise<Tokenizer> {
  const { HuggingFaceTokenizer } = await import('./hugging-face/tokenizer.ts');
  const names = ['tokenizer_config.json', 'special_tokens_map.json', 'config.json'] as const;
  const beside = await Promise.all(names.map(async (name) => [name, await readIfThere(folder, name)] as const));
  const json = await read(folder, 'tokenizer.json');
  return naming(folder, () =>
    HuggingFaceTokenizer.fromFiles({ 'tokenizer.json': json, ...Object.fromEntries(beside) }),
  );
}

async function loadSentencePiece(folder: string): Promise<Tokenizer> {
  const { SentencePieceTokenizer } = await import('./sentencepiece.ts');
  const model = await read(folder, 'tokenizer.model');
  const addsBos = await addsBosIn(folder);
  return naming(join(folder, 'tokenizer.model'), () => SentencePieceTokenizer.fromBytes(model, { addsBos }));
}

/** Whether `tokenizer_config.json` wants BOS in front of prompts: unless it says otherwise. */
async function addsBosIn(folder: string): Promise<boolean> {
  const name = 'tokenizer_config.json';
  const bytes = await readIfThere(folder, name);
  if (!bytes) return true;
  const config = await naming(folder, async () => {
    try {
      return parseJson(bytes, 64);
    } catch (cause) {
      throw new TokenizerError('tokenizer-invalid', `${name}: ${(cause as Error).message}`, { cause });
    }
  });
  return !(isObject(config) && config.add_bos_token === false);
}

async function readIfThere(folder: string, name: string): Promise<Uint8Array | undefined> {
  return (await isFile(join(folder, name))) ? read(folder, name) : undefined;
}

async function read(folder: string, name: string): Promise<Uint8Array> {
  const path = join(folder, name);
  try {
    const { size } = await stat(path);
    if (size <= maxBytes) return await readFile(path);
    throw new TokenizerError('tokenizer-invalid', `${path} has ${size} bytes, more than ${maxBytes}`);
  } catch (cause) {
    if (cause instanceof TokenizerError) throw cause;
    throw new TokenizerError('tokenizer-not-found', `${path} cannot be read`, { cause });
  }
}

/** Whether there is a regular file. */
async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

/** Puts a path in front of what is wrong there. */
async function naming<T>(path: string, task: () => Promise<T>): Promise<T> {
  try {
    return await task();
  } catch (cause) {
    if (!(cause instanceof TokenizerError)) throw cause;
    throw new TokenizerError(cause.code, `${path}: ${cause.message}`, { cause });
  }
}
