import { DeviceError } from '../errors.ts';
import { Pace } from '../pace.ts';
import type { LinearMemory } from './memory.ts';
import { type Program, stageWords } from './program.ts';
import { disposed, type Executor, type ScratchPlaces } from './threads.ts';

/** Milliseconds that a piece of a stage may take, where a unit takes no more: a fraction of a turn of the event loop. */
const pieceMs = 1;

type Pointer = number | bigint;
type Kernel = (parameters: Pointer, begin: number, end: number, scratch: Pointer, sharedScratch: Pointer) => void;

/** Runs everything in the calling thread, where memory cannot be shared: in pieces, so that the event loop goes round. */
export class OneThread implements Executor {
  readonly threads = 1;
  readonly #memory: LinearMemory;
  readonly #kernels: Kernel[] = [];
  readonly #pace = new Pace();
  #disposed = false;

  constructor(memory: LinearMemory) {
    this.#memory = memory;
  }

  load(module: Uint8Array<ArrayBuffer>): void {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module), {
      env: { memory: this.#memory.memory },
    });
    this.#kernels.push(exports.run as unknown as Kernel);
  }

  async run(programs: readonly Program[], { own, shared }: ScratchPlaces): Promise<void> {
    const { memory, type } = this.#memory;
    const pointer = type.bits === 64 ? BigInt : Number;
    for (const { address, stages } of programs) {
      for (let stage = 0; stage < stages; stage++) {
        const words = new Uint32Array(memory.buffer, address + 4 * stage * stageWords, stageWords);
        const [number, parameters, units] = words as unknown as [number, number, number];
        const kernel = this.#kernels[number]!;
        await this.#runStage(units, (begin, end) =>
          kernel(pointer(address + parameters), begin, end, pointer(own), pointer(shared)),
        );
      }
    }
  }

  /** There is no thread that could die. */
  interrupt(): void {}

  async dispose(): Promise<void> {
    this.#disposed = true;
  }

  async #runStage(units: number, run: (begin: number, end: number) => void): Promise<void> {
    let piece = 1;
    let begin = 0;
    while (begin < units) {
      const end = Math.min(units, begin + piece);
      const took = await this.#pace.do(() => this.#time(() => run(begin, end)));
      if (took < pieceMs / 2) piece *= 2;
      else if (took > pieceMs) piece = Math.ceil(piece / 2);
      begin = end;
    }
  }

  /** Milliseconds that it takes. */
  #time(run: () => void): number {
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
