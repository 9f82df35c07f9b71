import { Guard as PortableGuard } from '../guard.ts';
import { loadGuard, type ModelPlace, type PageLoadOptions } from './load.ts';

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
    return loadGuard(place, options);
  }
}
