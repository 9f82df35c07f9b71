import type { Backend } from './backend.ts';

/** Bytes of a lot. */
const size = 32 * 2 ** 20;

/**
 * Bytes on their way to a device, which takes one lot while the next is written. Until it has they lie in host memory: two
 * lots at the most.
 */
export class Lots {
  readonly #device: Pick<Backend, 'finish'>;
  readonly #size: number;
  #bytes = 0;
  #before: Promise<void> | undefined;

  constructor(device: Pick<Backend, 'finish'>, bytes = size) {
    this.#device = device;
    this.#size = bytes;
  }

  /** To be awaited after bytes were written, before more are. @throws DeviceError where the device failed on earlier ones */
  async wrote(bytes: number): Promise<void> {
    this.#bytes += bytes;
    if (this.#bytes < this.#size) return;
    this.#bytes = 0;
    const taken = this.#device.finish();
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    taken.catch(() => {});
    await this.#before;
    this.#before = taken;
  }

  /** Waits for all. @throws DeviceError */
  async end(): Promise<void> {
    await this.#before;
    await this.#device.finish();
  }
}
