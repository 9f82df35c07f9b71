import { type FetchedFolderOptions, fetchedFolder } from '../../engine/browser/fetched-folder.ts';
import { openDevice } from '../../engine/browser/open-device.ts';
import { pickedFolder } from '../../engine/browser/picked-folder.ts';
import { tuningCache } from '../../engine/browser/tuning-cache.ts';
import type { Folder } from '../../engine/folder.ts';
import { DeviceError } from '../../engine/index.ts';
import { assembleGuard } from '../assemble.ts';
import { typeName } from '../conversation.ts';
import { OptionError } from '../errors.ts';
import { Guard as PortableGuard } from '../guard.ts';
import type { LoadOptions } from '../options.ts';

/** Where a page has a model folder: behind an address, picked by its user, or anywhere else that files can be read from. */
export type ModelPlace = string | URL | FileSystemDirectoryHandle | Iterable<File> | Folder;

export interface PageLoadOptions extends LoadOptions<ModelPlace>, Pick<FetchedFolderOptions, 'fetch' | 'onDownload'> {}

/**
 * Judges conversations by a policy, in a page or in a worker of one. Checks may be asked for side by side: they go through
 * the model together, and a result does not depend on what else was asked for beyond the rounding of sums.
 *
 * @example
 * const guard = await Guard.load('/models/LlamaGuard-7b');
 * const { flagged, score } = await guard.check([{ role: 'user', content: 'How do I kill a process in Linux?' }]);
 */
export class Guard extends PortableGuard {
  /**
   * Loads a model folder: of a server, by its address; or one that the user picked, by its handle or its files.
   * @throws ModelError, TokenizerError, PolicyError, CalibrationError, DeviceError, OptionError, or the signal's reason
   */
  static async load(place: ModelPlace, options: PageLoadOptions = {}): Promise<Guard> {
    if (!globalThis.isSecureContext) {
      throw new DeviceError(
        'device-unavailable',
        'A page with a guard must come over https or from localhost: elsewhere browsers have neither WebGPU nor hashes.',
      );
    }
    const { fetch, onDownload, ...rest } = options;
    const reload = () => Guard.load(place, options);
    const platform = { folderAt: (at: ModelPlace) => folderAt(at, options), openDevice, tuning: tuningCache() };
    return assembleGuard(place, rest, platform, (parts) => new Guard({ ...parts, reload }));
  }
}

/** @throws OptionError `option-invalid` */
function folderAt(place: ModelPlace, options: FetchedFolderOptions): Folder {
  if (typeof place === 'string' || place instanceof URL) return fetchedFolder(place, options);
  if (typeof place === 'object' && place !== null) {
    if ('locate' in place) return place;
    if ('getFileHandle' in place || Symbol.iterator in place) return pickedFolder(place);
  }
  throw new OptionError(
    'option-invalid',
    `A folder is an address, or one that the user picked, not ${typeName(place)}. Options are the second argument of Guard.load.`,
  );
}
