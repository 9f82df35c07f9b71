import { logProbabilities } from '../kernels/log-probabilities/index.ts';
import type { Backend, Tensor } from './backend.ts';
import { batchLimits } from './batch.ts';

/** Tokens of a row whose log-probabilities may be asked for before the buffers have to grow. */
const usualPicks = 64;

/** Bytes that `PickBuffers` takes at first. */
export const pickBytes = 2 * 4 * batchLimits.wanted * usualPicks;

/** Device memory for the log-probabilities of a few tokens of each wanted row. */
export class PickBuffers implements Disposable {
  readonly #backend: Backend;
  #ids: Tensor; // (wanted, picks) u32
  #out: Tensor; // (wanted, picks) f32

  constructor(backend: Backend) {
    this.#backend = backend;
    [this.#ids, this.#out] = this.#allocate(usualPicks);
  }

  /** Makes room for `picks` a row. @throws DeviceError `out-of-memory`; nothing has changed then */
  reserve(picks: number): void {
    if (picks <= this.#ids.shape[1]!) return;
    const [ids, out] = this.#allocate(2 ** Math.ceil(Math.log2(picks)));
    this[Symbol.dispose]();
    this.#ids = ids;
    this.#out = out;
  }

  /**
   * Writes down which tokens each row is to be asked for, and returns what queues the log-probabilities of `picks[r]`
   * under the softmax over row r of the logits, (rows, vocabulary), and reads them.
   */
  prepare(picks: readonly (readonly number[])[]): (logits: Tensor) => Promise<Float32Array[]> {
    const width = Math.max(...picks.map(({ length }) => length));
    const ids = this.#ids.view([picks.length, width]);
    const out = this.#out.view([picks.length, width]);
    const padded = new Uint32Array(picks.length * width);
    picks.forEach((own, row) => {
      padded.set(own, row * width);
    });
    this.#backend.write(ids, padded);
    return async (logits) => {
      this.#backend.run(logProbabilities, { logits, ids, out });
      const numbers = (await this.#backend.read(out)) as Float32Array;
      return picks.map((own, row) => numbers.subarray(row * width, row * width + own.length));
    };
  }

  [Symbol.dispose](): void {
    this.#ids[Symbol.dispose]();
    this.#out[Symbol.dispose]();
  }

  #allocate(picks: number): [ids: Tensor, out: Tensor] {
    const shape = [batchLimits.wanted, picks];
    const ids = this.#backend.allocate(`ids of ${picks} picks`, 'u32', shape);
    try {
      return [ids, this.#backend.allocate(`log-probabilities of ${picks} picks`, 'f32', shape)];
    } catch (error) {
      ids[Symbol.dispose]();
      throw error;
    }
  }
}
