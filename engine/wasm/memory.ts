import { type MemoryType, mostPages, pageBytes } from '../../kernels/wasm/encoding.ts';
import { DeviceError } from '../errors.ts';
import { type Allocation, outOfMemory } from '../out-of-memory.ts';

/** Vectors, cache lines and the reach of a kernel beyond a tensor's end: it may read, never write, so far. */
const alignment = 64;
/** Where allocations begin; the threads meet in the first words, and conversions leave notes in a line of their own. */
const firstAddress = 1024;
export const noteAddress = 512;
/** Shares of the most pages that are asked for: less where a system refuses to set so many addresses aside. */
const shares = [1, 1 / 2, 1 / 4, 1 / 16];
/** Bytes of a block, since kernels count offsets in 32 bits whatever the memory. */
const largestBlock = 2 ** 32 - alignment;

/** The memory of a backend: one WebAssembly memory, handed out first-fit in blocks that lie where they are. */
export class LinearMemory {
  readonly memory: WebAssembly.Memory;
  readonly type: MemoryType;
  /** Bytes that it can grow to. */
  readonly limit: number;
  liveBytes = 0;
  peakBytes = 0;
  readonly #budget: number;
  readonly #live = new Map<number, Allocation>();
  /** Free runs by address, none next to another. */
  #free: { address: number; bytes: number }[] = [];
  #end = firstAddress;

  /** @throws DeviceError `out-of-memory` where the system grants none. */
  constructor(type: MemoryType, budget: number) {
    const { memory, pages } = reserve(type);
    this.memory = memory;
    this.type = type;
    this.limit = pages * pageBytes;
    this.#budget = Math.min(budget, this.limit - firstAddress - pageBytes);
  }

  /** Why it holds no more than its limit. */
  get bound(): string {
    return `all that a ${this.type.bits}-bit WebAssembly memory holds`;
  }

  /** A view of everything; growing leaves it behind. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer);
  }

  /** Zero-filled memory. @throws DeviceError `out-of-memory` */
  allocate(label: string, size: number): number {
    const bytes = Math.ceil(size / alignment) * alignment + alignment;
    this.assertRoom(label, bytes);
    if (bytes > largestBlock) throw outOfMemory({ label, size }, largestBlock, [], 'all that one tensor may take');
    const run = this.#free.find((free) => free.bytes >= bytes);
    const address = run ? this.#take(run, bytes) : this.#extend(label, bytes);
    this.#live.set(address, { label, size: bytes });
    this.liveBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return address;
  }

  /** @throws DeviceError `out-of-memory` where so many bytes more would exceed the budget */
  assertRoom(label: string, bytes: number): void {
    if (this.liveBytes + bytes > this.#budget) throw this.#outOfMemory(label, bytes);
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
        this.memory.grow(pageCount(this.type, Math.ceil(missing / pageBytes)));
      } catch {
        throw this.#outOfMemory(label, bytes);
      }
    }
    this.#end += bytes;
    return address;
  }

  #outOfMemory(label: string, size: number): DeviceError {
    const bound = this.#budget >= this.limit - 2 * pageBytes ? this.bound : undefined;
    return outOfMemory({ label, size }, this.#budget, this.#live.values(), bound);
  }
}

/** A number of pages as a memory takes it: one of 64 bits a big integer, of which TypeScript's library knows nothing. */
const pageCount = ({ bits }: MemoryType, pages: number): number =>
  bits === 64 ? (BigInt(pages) as unknown as number) : pages;

function reserve(type: MemoryType): { memory: WebAssembly.Memory; pages: number } {
  let refusal: unknown;
  for (const share of shares) {
    const pages = share * mostPages[type.bits];
    const descriptor = {
      initial: pageCount(type, 1),
      maximum: pageCount(type, pages),
      shared: type.shared,
      // Engines without 64-bit memory take no address type, and one of 32 bits for granted.
      ...(type.bits === 64 ? { address: 'i64' as const } : {}),
    };
    try {
      return { memory: new WebAssembly.Memory(descriptor), pages };
    } catch (error) {
      refusal = error;
    }
  }
  throw new DeviceError('out-of-memory', `The system refuses a WebAssembly memory: ${refusal}.`, { cause: refusal });
}
