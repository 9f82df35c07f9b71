import { open, readdir, readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { type AdapterFolder, openAdapter } from '../adapter-folder.ts';
import type { LlamaConfig } from '../config.ts';
import { reasonOf } from '../errors.ts';
import { type Folder, type FolderFile, tooLarge } from '../folder.ts';
import { type ModelFolder, openModel } from '../model-folder.ts';
import type { ByteFile } from '../safetensors/source.ts';

/** A folder on a disk. Symbolic links are followed, because the Hugging Face cache consists of them. */
export function diskFolder(path: string): Folder {
  const locate = (name: string) => join(path, name);
  return {
    name: basename(resolve(path)),
    location: path,
    locate,
    list: () => listFiles(path),
    read: async (name, maxBytes) => {
      const bytes = await fileSize(locate(name));
      if (bytes === undefined) return undefined;
      if (bytes > maxBytes) throw tooLarge(bytes, maxBytes);
      return readFile(locate(name));
    },
    open: async (name) => ((await fileSize(locate(name))) === undefined ? undefined : openFile(locate(name))),
  };
}

/** Opens a model folder on a disk. @throws ModelError as `openModel` does */
export const openModelFolder = (path: string): Promise<ModelFolder> => openModel(diskFolder(path));

/** Opens an adapter's folder on a disk. @throws ModelError as `openAdapter` does */
export const openAdapterFolder = (path: string, model: LlamaConfig): Promise<AdapterFolder> =>
  openAdapter(diskFolder(path), model);

async function listFiles(path: string): Promise<FolderFile[]> {
  const names = await readdir(path).catch((cause: NodeJS.ErrnoException) => {
    const reasons: Record<string, string> = {
      ENOENT: 'there is no such folder',
      ENOTDIR: 'it is a file; give the folder that it is in',
    };
    throw new Error(reasons[cause.code!] ?? `it cannot be read (${cause.code})`, { cause });
  });
  const files: FolderFile[] = [];
  for (const name of names.sort()) {
    const bytes = await fileSize(join(path, name));
    if (bytes !== undefined) files.push({ name, bytes });
  }
  return files;
}

/** Undefined for what is no regular file: a dangling link is not there, a pipe or a device would never end. */
async function fileSize(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

async function openFile(path: string): Promise<ByteFile> {
  const handle = await open(path).catch((cause) => {
    throw new Error(`${reasonOf(cause)}; may this process read it?`, { cause });
  });
  const { size } = await handle.stat().catch(async (cause) => {
    await handle.close();
    throw cause;
  });
  return {
    name: path,
    size,
    read: async (target, position) => (await handle.read(target, 0, target.length, position)).bytesRead,
    readMany: async (targets, position) => (await handle.readv(targets, position)).bytesRead,
    close: () => handle.close(),
  };
}
