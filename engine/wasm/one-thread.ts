import { DeviceError } from '../errors.ts';
import { Pace } from '../pace.ts';
import { disposed, type Executor, instantiate, type Kernel, type Program, stageWords } from './threads.ts';

/** Milliseconds that a piece of a stage may take, where a unit takes no more: a fraction of a turn of the event loop. */
const pieceMs = 1;

/** Runs everything in the calling thread, where memory cannot be shared: in pieces, so that the event loop goes round. */
export class OneThread implements Executor {
  readonly threads = 1;
  readonly #memory: WebAssembly.Memory;
  readonly #kernels: Kernel[] = [];
  readonly #pace = new Pace();
  #disposed = false;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
  }

  load(module: Uint8Array<ArrayBuffer>): void {
    this.#kernels.push(instantiate(module, this.#memory));
  }

  async run(programs: readonly Program[], scratch: number): Promise<void> {
    for (const { address, stages } of programs) {
      for (let stage = 0; stage < stages; stage++) {
        const words = new Uint32Array(this.#memory.buffer, address + 4 * stage * stageWords, stageWords);
        const [kernel, parameters, units] = words as unknown as [number, number, number];
        await this.#runStage(this.#kernels[kernel]!, parameters, units, scratch);
      }
    }
  }

  /** There is no thread that could die. */
  interrupt(): void {}

  dispose(): void {
    this.#disposed = true;
  }

  async #runStage(kernel: Kernel, parameters: number, units: number, scratch: number): Promise<void> {
    let piece = 1;
    let begin = 0;
    while (begin < units) {
      const end = Math.min(units, begin + piece);
      const took = await this.#pace.do(() => this.#runPiece(() => kernel(parameters, begin, end, scratch)));
      if (took < pieceMs / 2) piece *= 2;
      else if (took > pieceMs) piece = Math.ceil(piece / 2);
      begin = end;
    }
  }

  /** Milliseconds that it took. */
  #runPiece(run: () => void): number {
    if (this.#disposed) throw disposed();
    const start = performance.now();
    try {
      run();
    } catch (cause) {
      throw new DeviceError('device-failure', `A kernel failed: ${cause}.`, { cause });
    }
    return performance.now() - start;
  }
}
