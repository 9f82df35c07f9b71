import { Guard as PortableGuard } from '../guard.ts';
import type { LoadOptions } from '../options.ts';

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
  static async load(folder?: string, options: LoadOptions = {}): Promise<Guard> {
    const { loadGuard } = await import('./load.ts');
    return loadGuard(folder, options);
  }
}
