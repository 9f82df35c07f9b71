import { mostPages, pageBytes } from '../../kernels/wasm/encoding.ts';
import { DeviceError } from '../errors.ts';
import { type Allocation, outOfMemory } from '../out-of-memory.ts';

/** Vectors, cache lines and the reach of a kernel beyond a tensor's end: it may read, never write, so far. */
const alignment = 64;
/** Where allocations begin; the threads meet in the words before. */
const firstAddress = 1024;
/** Most pages that are asked for, less where a system refuses to set so many addresses aside. */
const sizes = [mostPages, mostPages / 4, mostPages / 16];

/** The memory of a backend: one WebAssembly memory, handed out first-fit in blocks that lie where they are. */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly shared: boolean;
  /** Bytes that it can grow to. */
  readonly limit: number;
  liveBytes = 0;
  peakBytes = 0;
  readonly #budget: number;
  readonly #live = new Map<number, Allocation>();
  /** Free runs by address, none next to another. */
  #free: { address: number; bytes: number }[] = [];
  #end = firstAddress;

  /** @throws DeviceError `device-unavailable` where no memory can be had. */
  constructor(shared: boolean, budget: number) {
    const { memory, pages } = reserve(shared);
    this.memory = memory;
    this.shared = shared;
    this.limit = pages * pageBytes;
    this.#budget = Math.min(budget, this.limit - firstAddress - pageBytes);
  }

  /** A view of everything; growing leaves it behind. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer);
  }

  /** Zero-filled memory. @throws DeviceError `out-of-memory` */
  allocate(label: string, size: number): number {
    const bytes = Math.ceil(size / alignment) * alignment + alignment;
    if (this.liveBytes + bytes > this.#budget) throw this.#outOfMemory(label, bytes);
    const run = this.#free.find((free) => free.bytes >= bytes);
    const address = run ? this.#take(run, bytes) : this.#extend(label, bytes);
    this.#live.set(address, { label, size: bytes });
    this.liveBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return address;
  }

  /** Idempotent. */
  free(address: number): void {
    const block = this.#live.get(address);
    if (!block) return;
    const bytes = block.size;
    this.#live.delete(address);
    this.liveBytes -= bytes;
    const runs = [...this.#free, { address, bytes }].sort((a, b) => a.address - b.address);
    this.#free = [];
    for (const run of runs) {
      const last = this.#free.at(-1);
      if (last && last.address + last.bytes === run.address) last.bytes += run.bytes;
      else this.#free.push({ ...run });
    }
  }

  freeAll(): void {
    for (const address of [...this.#live.keys()]) this.free(address);
  }

  #take(run: { address: number; bytes: number }, bytes: number): number {
    const { address } = run;
    run.address += bytes;
    run.bytes -= bytes;
    if (run.bytes === 0) this.#free.splice(this.#free.indexOf(run), 1);
    this.bytes.fill(0, address, address + bytes);
    return address;
  }

  #extend(label: string, bytes: number): number {
    const address = this.#end;
    const missing = address + bytes - this.memory.buffer.byteLength;
    if (missing > 0) {
      try {
        this.memory.grow(Math.ceil(missing / pageBytes));
      } catch {
        throw this.#outOfMemory(label, bytes);
      }
    }
    this.#end += bytes;
    return address;
  }

  #outOfMemory(label: string, size: number): DeviceError {
    const bounded = this.#budget >= this.limit - 2 * pageBytes;
    const bound = bounded ? 'all that a 32-bit WebAssembly memory holds' : undefined;
    return outOfMemory({ label, size }, this.#budget, this.#live.values(), bound);
  }
}

function reserve(shared: boolean): { memory: WebAssembly.Memory; pages: number } {
  let refusal: unknown;
  for (const pages of sizes) {
    try {
      return { memory: new WebAssembly.Memory({ initial: 1, maximum: pages, shared }), pages };
    } catch (error) {
      refusal = error;
    }
  }
  throw new DeviceError('device-unavailable', `The system refuses a WebAssembly memory: ${refusal}.`, {
    cause: refusal,
  });
}
