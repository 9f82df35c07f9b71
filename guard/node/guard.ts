import { fileURLToPath } from 'node:url';
import type { Folder } from '../../engine/folder.ts';
import { diskFolder } from '../../engine/node/disk-folder.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { tuningFiles } from '../../engine/node/tuning-file.ts';
import { assembleGuard } from '../assemble.ts';
import { typeName } from '../conversation.ts';
import { OptionError } from '../errors.ts';
import { Guard as PortableGuard } from '../guard.ts';
import type { LoadOptions } from '../options.ts';
import { embeddedModel } from './load.ts';

/** Where Node.js has a folder: at a path, or a `file:` URL. */
export type DiskPlace = string | URL;

/**
 * Judges conversations by a policy. Checks may be asked for side by side: they go through the model together, and a result
 * does not depend on what else was asked for beyond the rounding of sums.
 *
 * @example
 * await using guard = await Guard.load('models/LlamaGuard-7b');
 * const { flagged, score } = await guard.check([{ role: 'user', content: 'How do I kill a process in Linux?' }]);
 */
export class Guard extends PortableGuard {
  /**
   * Loads a model folder; without one, the small demonstration model of this package.
   * @throws ModelError, TokenizerError, PolicyError, CalibrationError, DeviceError, OptionError, or the signal's reason
   */
  static load(folder: DiskPlace = embeddedModel, options: LoadOptions<DiskPlace> = {}): Promise<Guard> {
    const reload = () => Guard.load(folder, options);
    const platform = { folderAt, openDevice, tuning: tuningFiles() };
    return assembleGuard(folder, options, platform, (parts) => new Guard({ ...parts, reload }));
  }
}

/** @throws OptionError `option-invalid` */
function folderAt(place: DiskPlace): Folder {
  if (typeof place === 'string') return diskFolder(place);
  if (place instanceof URL && place.protocol === 'file:') return diskFolder(fileURLToPath(place));
  throw new OptionError(
    'option-invalid',
    `A folder is named by a path or a file: URL, not by ${place instanceof URL ? place.href : typeName(place)}. Options are ` +
      'the second argument of Guard.load, after the folder or undefined.',
  );
}
