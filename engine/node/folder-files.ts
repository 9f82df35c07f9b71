import { type FileHandle, open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { parseJson } from '../../kernels/json.ts';
import { ModelError } from '../errors.ts';
import type { ByteFile } from '../safetensors/source.ts';

/** A file of a folder, by its name there. */
export interface FolderFile {
  readonly name: string;
  readonly bytes: number;
}

/** Bytes of the largest config.json, or its like, that is read. */
export const maxConfigBytes = 1024 * 1024;
const maxJsonDepth = 32;

/**
 * The files of a folder by name. Symbolic links are followed, because the Hugging Face cache consists of them.
 * @param expected what messages say that there should be
 * @throws ModelError `model-not-found`
 */
export async function listFiles(folder: string, expected: string): Promise<FolderFile[]> {
  let names: string[];
  try {
    names = await readdir(folder);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code;
    const reason =
      code === 'ENOENT'
        ? 'there is no such folder'
        : code === 'ENOTDIR'
          ? 'it is a file; give the folder that it is in'
          : `it cannot be read (${code})`;
    throw notFound(`${folder}: ${expected}, but ${reason}.`, { cause });
  }
  const files: FolderFile[] = [];
  for (const name of names.sort()) {
    // Follows links. A dangling one is not there; a pipe or a device would never end.
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found?.isFile()) files.push({ name, bytes: found.size });
  }
  return files;
}

/**
 * Parses a JSON file of a folder.
 * @throws RangeError, SyntaxError, or why it cannot be read; `reasonOf` says it in a sentence
 */
export async function readJson(folder: string, name: string, bytes: number, maxBytes: number): Promise<unknown> {
  if (bytes > maxBytes) throw new RangeError(`it must be at most ${maxBytes} bytes, but has ${bytes}`);
  return parseJson(await readFile(join(folder, name)), maxJsonDepth);
}

/** Opens files of a folder, all or none. @throws ModelError `model-not-found` */
export async function openFiles(folder: string, names: readonly string[]): Promise<ByteFile[]> {
  const files: ByteFile[] = [];
  try {
    for (const name of names) files.push(await openFile(join(folder, name)));
    return files;
  } catch (error) {
    await Promise.allSettled(files.map((file) => file.close()));
    throw error;
  }
}

async function openFile(path: string): Promise<ByteFile> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path);
    const { size } = await handle.stat();
    const opened = handle;
    return {
      name: path,
      size,
      read: async (target, position) => (await opened.read(target, 0, target.length, position)).bytesRead,
      readMany: async (targets, position) => (await opened.readv(targets, position)).bytesRead,
      close: () => opened.close(),
    };
  } catch (cause) {
    await handle?.close();
    throw notFound(`${path}: it cannot be opened (${reasonOf(cause)}). May this process read it?`, { cause });
  }
}

/** Why a file cannot be used, as the end of a sentence. */
export function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return cause instanceof SyntaxError ? `it must be JSON, but ${message}` : message;
}

export function notFound(message: string, options?: ErrorOptions): ModelError {
  return new ModelError('model-not-found', message, options);
}
