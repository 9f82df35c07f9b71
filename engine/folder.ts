import { parseJson } from '../kernels/json.ts';
import { ModelError, reasonOf } from './errors.ts';
import { type ByteFile, closeAll } from './safetensors/source.ts';

/** A file of a folder, by its name there. */
export interface FolderFile {
  readonly name: string;
  readonly bytes: number;
}

/**
 * The files of a folder, wherever it lies: on a disk, behind a URL, or picked by the user of a page. Where a method
 * rejects, the error's message says why as the end of a sentence; the caller knows which file it wanted and what for.
 */
export interface Folder {
  /** Its own name, without where it lies. */
  readonly name: string;
  /** What messages call it: a path or an address. */
  readonly location: string;
  /** What messages call one of its files. */
  locate(name: string): string;
  /** Its files, sorted by name; none where a place does not tell what it has, as a server. */
  list(): Promise<readonly FolderFile[]>;
  /** A file's bytes; undefined where there is no such file. @throws RangeError where it has more than `maxBytes` */
  read(name: string, maxBytes: number): Promise<Uint8Array | undefined>;
  /** A file to be read in pieces; undefined where there is no such file. */
  open(name: string): Promise<ByteFile | undefined>;
}

/** Bytes of the largest config.json, or its like, that is read. */
const maxConfigBytes = 1024 * 1024;
const maxJsonDepth = 32;

/** The files of a folder. @param expected what messages say that there should be @throws ModelError `model-not-found` */
export function listFiles(folder: Folder, expected: string): Promise<readonly FolderFile[]> {
  return folder.list().catch((cause) => {
    throw notFound(`${folder.location}: ${expected}, but ${reasonOf(cause)}.`, { cause });
  });
}

/** Parses a JSON file; undefined where there is none. @throws RangeError, SyntaxError, or why it cannot be read */
export async function readJson(folder: Folder, name: string, maxBytes: number): Promise<unknown> {
  const bytes = await folder.read(name, maxBytes);
  return bytes && parseJson(bytes, maxJsonDepth);
}

/**
 * Parses a configuration file; undefined where there is none.
 * @throws ModelError `config-invalid` for what is no JSON that can be used, `model-not-found` where it cannot be read
 */
export function readConfig(folder: Folder, name: string): Promise<unknown> {
  return readJson(folder, name, maxConfigBytes).catch((cause) => {
    const code = cause instanceof SyntaxError || cause instanceof RangeError ? 'config-invalid' : 'model-not-found';
    throw new ModelError(code, `${folder.locate(name)}: ${reasonOf(cause)}. Download it again.`, { cause });
  });
}

/** Opens files, all or none: undefined in the places of those that are not there. @throws ModelError `model-not-found` */
export async function openFiles(folder: Folder, names: readonly string[]): Promise<(ByteFile | undefined)[]> {
  const files: (ByteFile | undefined)[] = [];
  try {
    for (const name of names) {
      files.push(
        await folder.open(name).catch((cause) => {
          throw notFound(`${folder.locate(name)}: it cannot be opened: ${reasonOf(cause)}.`, { cause });
        }),
      );
    }
    return files;
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/** Why a file is not read. @param bytes that it has, where that is known */
export const tooLarge = (bytes: number | undefined, maxBytes: number): RangeError =>
  new RangeError(`it must be at most ${maxBytes} bytes, but has ${bytes ?? 'more'}`);

export function notFound(message: string, options?: ErrorOptions): ModelError {
  return new ModelError('model-not-found', message, options);
}
