import { type FetchedFolderOptions, fetchedFolder } from '../../engine/browser/fetched-folder.ts';
import { openDevice } from '../../engine/browser/open-device.ts';
import { pickedFolder } from '../../engine/browser/picked-folder.ts';
import { tuningCache } from '../../engine/browser/tuning-cache.ts';
import type { Folder } from '../../engine/folder.ts';
import { DeviceError } from '../../engine/index.ts';
import { assembleGuard } from '../assemble.ts';
import type { LoadOptions } from '../options.ts';
import { Guard } from './guard.ts';

/** Where a page has a model folder: behind an address, picked by its user, or anywhere else that files can be read from. */
export type ModelPlace = string | URL | FileSystemDirectoryHandle | Iterable<File> | Folder;

export interface PageLoadOptions extends LoadOptions, Pick<FetchedFolderOptions, 'fetch' | 'onDownload'> {}

/** Puts a guard together from a model folder. @throws as `assembleGuard` does */
export function loadGuard(place: ModelPlace, options: PageLoadOptions = {}): Promise<Guard> {
  if (!globalThis.isSecureContext) {
    throw new DeviceError(
      'device-unavailable',
      'A page with a guard must come over https or from localhost: elsewhere browsers have neither WebGPU nor hashes.',
    );
  }
  const { fetch, onDownload, ...rest } = options;
  const reload = () => loadGuard(place, options);
  const platform = { openDevice, tuning: tuningCache() };
  return assembleGuard(folderAt(place, options), rest, platform, (parts) => new Guard({ ...parts, reload }));
}

function folderAt(place: ModelPlace, options: FetchedFolderOptions): Folder {
  if (typeof place === 'string' || place instanceof URL) return fetchedFolder(place, options);
  return 'locate' in place ? place : pickedFolder(place);
}
