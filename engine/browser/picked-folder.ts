import { type Folder, tooLarge } from '../folder.ts';
import { blobFile } from './blob-file.ts';

/**
 * A folder that the user of a page picked, by `showDirectoryPicker()` or `<input type="file" webkitdirectory>`, or one of
 * the page's own (`navigator.storage.getDirectory()`). Of picked files those of folders inside are left out.
 */
export function pickedFolder(picked: FileSystemDirectoryHandle | Iterable<File>): Folder {
  return 'getFileHandle' in picked ? handleFolder(picked) : filesFolder([...picked]);
}

function handleFolder(handle: FileSystemDirectoryHandle): Folder {
  const list = async () => {
    const files: File[] = [];
    for await (const entry of handle.values()) {
      if (entry.kind === 'file') files.push(await (entry as FileSystemFileHandle).getFile());
    }
    return files;
  };
  const find = async (name: string) => {
    try {
      return await (await handle.getFileHandle(name)).getFile();
    } catch (error) {
      // A folder of the name is not a file of it.
      if (['NotFoundError', 'TypeMismatchError'].includes((error as Error).name)) return undefined;
      throw error;
    }
  };
  return folderOf(handle.name, list, find);
}

function filesFolder(picked: readonly File[]): Folder {
  const files = picked.filter(({ webkitRelativePath }) => webkitRelativePath.split('/').length <= 2);
  const [folder] = files[0]?.webkitRelativePath.split('/') ?? [];
  const find = async (wanted: string) => files.find(({ name }) => name === wanted);
  return folderOf(folder || 'picked files', async () => files, find);
}

function folderOf(
  name: string,
  list: () => Promise<readonly File[]>,
  find: (name: string) => Promise<File | undefined>,
): Folder {
  const locate = (file: string) => `${name}/${file}`;
  return {
    name,
    location: name,
    locate,
    list: async () => {
      const files = (await list()).map((file) => ({ name: file.name, bytes: file.size }));
      return files.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    read: async (file, maxBytes) => {
      const found = await find(file);
      if (found && found.size > maxBytes) throw tooLarge(found.size, maxBytes);
      return found && new Uint8Array(await found.arrayBuffer());
    },
    open: async (file) => {
      const found = await find(file);
      return found && blobFile(locate(file), found);
    },
  };
}
