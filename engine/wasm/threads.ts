import { DeviceError } from '../errors.ts';
import type { LinearMemory } from './memory.ts';
import { type Program, stageWords } from './program.ts';

/** A thread that runs JavaScript: a worker of Node.js or of a page. */
export interface Thread {
  post(message: unknown): void;
  /** Keeps the process alive, or lets it end, while the thread waits. */
  hold(busy: boolean): void;
  /** Resolves once the thread runs no more, as far as the platform tells. */
  terminate(): Promise<void>;
}

/** Starts a thread with the text of a classic script, which calls `receive(callback)` and `send(message)`. */
export type StartThread = (
  script: string,
  on: { message(message: unknown): void; failure(reason: string): void },
) => Thread;

/** Where kernels find working memory: what all share, and the first thread's own, each further one's so many bytes on. */
export interface ScratchPlaces {
  readonly shared: number;
  readonly own: number;
  readonly ownBytes: number;
}

/** Whatever runs programs. */
export interface Executor {
  readonly threads: number;
  /** Makes a kernel known, under the next number. */
  load(module: Uint8Array<ArrayBuffer>): void;
  /** Runs programs in order. */
  run(programs: readonly Program[], scratch: ScratchPlaces): Promise<void>;
  /** Fails what runs, as if a thread had died. */
  interrupt(): void;
  /** Fails what runs at once; resolves when nothing uses the memory any more. */
  dispose(): Promise<void>;
}

export const disposed = () => new DeviceError('device-unavailable', 'This device was disposed; open another.');

/** Where threads meet, as indices of 32-bit words: how many arrived at the end of a stage, and how many ends there were. */
const meeting = { arrived: 0, ends: 1 };
/** How often a thread that waits looks again before it sleeps: some microseconds, as long as stages differ by. */
const looks = 4000;

/**
 * What a thread does. It is a text because that is what every platform starts a thread with, without a file of its own.
 * Units are taken by shares, so a thread that is held up takes fewer; at the end of a stage all wait for the last, since
 * the next stage may read what any of them wrote. A round of shares, one for each thread, is half of what is left: there are
 * few of them, and the last are small (factoring; Hummel, Schonberg and Flynn, CACM 35, 1992).
 */
const script = /* js */ `
const own = { memory: undefined, wide: false, thread: 0, threads: 1, kernels: [] };

receive((message) => {
  if (message.memory) Object.assign(own, message.start, { memory: message.memory });
  for (const module of message.modules ?? []) {
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module), { env: { memory: own.memory } });
    own.kernels.push(exports.run);
  }
  if (message.programs) run(message);
});

function run({ programs, scratch, bytes }) {
  // Addresses of 64 bits go into WebAssembly as big integers.
  const pointer = own.wide ? BigInt : Number;
  // An engine may forget to tell a thread that is being started of growth: growing by nothing makes it look.
  if (own.memory.buffer.byteLength < bytes) own.memory.grow(pointer(0));
  const words = new Int32Array(own.memory.buffer);
  const ownScratch = pointer(scratch.own + own.thread * scratch.ownBytes);
  const sharedScratch = pointer(scratch.shared);
  // Where there is no stage, nobody is the last: one thread speaks for all.
  let last = own.thread === 0;
  for (const { address, stages } of programs) {
    for (let at = address / 4, end = at + ${stageWords} * stages; at < end; at += ${stageWords}) {
      const kernel = own.kernels[words[at]];
      const parameters = pointer(address + words[at + 1]);
      const units = words[at + 2];
      for (let round = -1, left = units, share = 0; ; ) {
        const taken = Atomics.add(words, at + 3, 1);
        for (; round < Math.floor(taken / own.threads); round++) {
          left -= own.threads * share;
          share = Math.max(1, Math.floor(left / (2 * own.threads)));
        }
        const begin = units - left + (taken % own.threads) * share;
        if (begin >= units) break;
        kernel(parameters, begin, Math.min(units, begin + share), ownScratch, sharedScratch);
      }
      last = meet(words);
    }
  }
  if (last) send('done');
}

/** Waits for the other threads; true in the last to come. */
function meet(words) {
  const ends = Atomics.load(words, ${meeting.ends});
  if (Atomics.add(words, ${meeting.arrived}, 1) === own.threads - 1) {
    Atomics.store(words, ${meeting.arrived}, 0);
    Atomics.add(words, ${meeting.ends}, 1);
    Atomics.notify(words, ${meeting.ends});
    return true;
  }
  for (let look = 0; look < ${looks}; look++) if (Atomics.load(words, ${meeting.ends}) !== ends) return false;
  while (Atomics.load(words, ${meeting.ends}) === ends) Atomics.wait(words, ${meeting.ends}, ends);
  return false;
}
`;

/** Threads on one shared memory. When one dies the others are ended too, and the next run starts new ones. */
export class ThreadPool implements Executor {
  readonly threads: number;
  readonly #memory: LinearMemory;
  readonly #start: StartThread;
  readonly #modules: Uint8Array<ArrayBuffer>[] = [];
  #pool: Thread[] = [];
  #running: { resolve(): void; reject(error: DeviceError): void } | undefined;
  /** While threads that are being ended may still write. */
  #ending: Promise<void> | undefined;
  #disposed = false;

  /** @throws DeviceError `device-unavailable` where the system does not start so many */
  constructor(memory: LinearMemory, threads: number, start: StartThread) {
    this.#memory = memory;
    this.threads = threads;
    this.#start = start;
    this.#revive();
  }

  load(module: Uint8Array<ArrayBuffer>): void {
    this.#modules.push(module);
    for (const thread of this.#pool) thread.post({ modules: [module] });
  }

  async run(programs: readonly Program[], scratch: ScratchPlaces): Promise<void> {
    if (this.#ending) await this.#ending;
    if (this.#disposed) throw disposed();
    this.#revive();
    const words = new Int32Array(this.#memory.memory.buffer);
    for (const { address, stages } of programs) {
      for (let stage = 0; stage < stages; stage++) words[address / 4 + stage * stageWords + 3] = 0;
    }
    return new Promise((resolve, reject) => {
      this.#running = { resolve, reject };
      for (const thread of this.#pool) {
        thread.hold(true);
        thread.post({ programs, scratch, bytes: words.byteLength });
      }
    });
  }

  interrupt(): void {
    this.#fail('it was ended');
  }

  dispose(): Promise<void> {
    this.#disposed = true;
    this.#running?.reject(disposed());
    return this.#end();
  }

  #revive(): void {
    if (this.#pool.length > 0) return;
    new Int32Array(this.#memory.memory.buffer, 0, 2).fill(0);
    try {
      for (let thread = 0; thread < this.threads; thread++) this.#pool.push(this.#startThread(thread));
    } catch (cause) {
      const started = this.#pool.length;
      void this.#end();
      throw new DeviceError(
        'device-unavailable',
        `The system started ${started} of ${this.threads} threads and no more (${cause}). Open the device with fewer 'threads'.`,
        { cause },
      );
    }
  }

  #startThread(thread: number): Thread {
    // A thread that is ended on purpose reports that too, and what it did before.
    const heard = (report: () => void) => this.#pool.includes(started) && report();
    const started = this.#start(script, {
      message: () => heard(() => this.#done()),
      failure: (reason) => heard(() => this.#fail(reason)),
    });
    const { memory, type } = this.#memory;
    const start = { wide: type.bits === 64, thread, threads: this.threads };
    started.post({ memory, start, modules: this.#modules });
    started.hold(false);
    return started;
  }

  #done(): void {
    for (const thread of this.#pool) thread.hold(false);
    const running = this.#running;
    this.#running = undefined;
    running?.resolve();
  }

  /** Whoever is told uses the memory again, so all threads have to have ended by then. */
  #fail(reason: string): void {
    const running = this.#running;
    const error = new DeviceError(
      'device-failure',
      `A thread died (${reason}). New ones are started with the next request.`,
    );
    void this.#end().then(() => running?.reject(error));
  }

  #end(): Promise<void> {
    const ended = this.#pool;
    this.#pool = [];
    this.#running = undefined;
    const ending = Promise.all([this.#ending, ...ended.map((thread) => thread.terminate())]).then(() => {
      if (this.#ending === ending) this.#ending = undefined;
    });
    this.#ending = ending;
    return ending;
  }
}
