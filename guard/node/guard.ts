import { diskFolder } from '../../engine/node/disk-folder.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { tuningFiles } from '../../engine/node/tuning-file.ts';
import { assembleGuard } from '../assemble.ts';
import { Guard as PortableGuard } from '../guard.ts';
import type { LoadOptions } from '../options.ts';
import { embeddedModel } from './load.ts';

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
  static load(folder: string = embeddedModel, options: LoadOptions = {}): Promise<Guard> {
    const reload = () => Guard.load(folder, options);
    const platform = { folderAt: diskFolder, openDevice, tuning: tuningFiles() };
    return assembleGuard(folder, options, platform, (parts) => new Guard({ ...parts, reload }));
  }
}
