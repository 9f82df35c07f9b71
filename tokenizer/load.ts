import { isObject, parseJson } from '../kernels/json.ts';
import { TokenizerError } from './errors.ts';
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

/** Beyond the largest tokenizers there are; a file of more bytes is not read. */
const maxBytes = 64 * 2 ** 20;

/**
 * The tokenizer of a model folder: its `tokenizer.json` (Hugging Face), else its `tokenizer.model` (SentencePiece).
 *
 * Where there are both, tokenizer.json tells more: which tokens a frame may spell, and how text goes on behind one. Of
 * text they make the same ids (docs/decisions/0019). One that asks for what is not computed here gives way to the other.
 *
 * @throws {TokenizerError} `tokenizer-not-found` if the folder has none, `tokenizer-invalid` if a file is broken,
 * `tokenizer-unsupported` if it asks for what is not computed here; the message names the file
 */
export async function tokenizerIn(folder: TokenizerFolder): Promise<Tokenizer> {
  const json = await read(folder, 'tokenizer.json');
  if (!json) {
    const model = await read(folder, 'tokenizer.model');
    if (model) return loadSentencePiece(folder, model);
    throw new TokenizerError(
      'tokenizer-not-found',
      `${folder.location} has neither a tokenizer.json nor a tokenizer.model (SentencePiece): put the one of the same model there`,
    );
  }
  try {
    return await loadHuggingFace(folder, json);
  } catch (error) {
    const givesWay = error instanceof TokenizerError && error.code === 'tokenizer-unsupported';
    const model = givesWay ? await read(folder, 'tokenizer.model') : undefined;
    if (model) return loadSentencePiece(folder, model);
    throw error;
  }
}

// Each kind is imported on use: most folders need one, and they bring hundreds of kilobytes.

async function loadHuggingFace(folder: TokenizerFolder, json: Uint8Array): Promise<Tokenizer> {
  const { HuggingFaceTokenizer } = await import('./hugging-face/tokenizer.ts');
  const names = ['tokenizer_config.json', 'special_tokens_map.json', 'config.json'] as const;
  const beside = await Promise.all(names.map(async (name) => [name, await read(folder, name)] as const));
  return naming(folder.location, () =>
    HuggingFaceTokenizer.fromFiles({ 'tokenizer.json': json, ...Object.fromEntries(beside) }),
  );
}

async function loadSentencePiece(folder: TokenizerFolder, model: Uint8Array): Promise<Tokenizer> {
  const { SentencePieceTokenizer } = await import('./sentencepiece.ts');
  const addsBos = await addsBosIn(folder);
  return naming(folder.locate('tokenizer.model'), () => SentencePieceTokenizer.fromBytes(model, { addsBos }));
}

/** Whether `tokenizer_config.json` wants BOS in front of prompts: unless it says otherwise. */
async function addsBosIn(folder: TokenizerFolder): Promise<boolean> {
  const name = 'tokenizer_config.json';
  const bytes = await read(folder, name);
  if (!bytes) return true;
  const config = await naming(folder.location, async () => {
    try {
      return parseJson(bytes, 64);
    } catch (cause) {
      throw new TokenizerError('tokenizer-invalid', `${name}: ${(cause as Error).message}`, { cause });
    }
  });
  return !(isObject(config) && config.add_bos_token === false);
}

async function read(folder: TokenizerFolder, name: string): Promise<Uint8Array | undefined> {
  try {
    return await folder.read(name, maxBytes);
  } catch (cause) {
    const code = cause instanceof RangeError ? 'tokenizer-invalid' : 'tokenizer-not-found';
    throw new TokenizerError(code, `${folder.locate(name)}: ${(cause as Error).message}`, { cause });
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
