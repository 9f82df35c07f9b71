import type { ByteFile } from '../../engine/safetensors/source.ts';

/** A file in memory that remembers what was read of it. */
export class MemoryFile implements ByteFile {
  readonly name = 'memory.safetensors';
  readonly size: number;
  /** Positions, in order. */
  readonly reads: number[] = [];
  readonly #bytes: Uint8Array;

  /** @param size more than there are bytes: the rest is zeros */
  constructor(bytes: Uint8Array, size = bytes.length) {
    this.#bytes = bytes;
    this.size = size;
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    this.reads.push(position);
    target.fill(0).set(this.#bytes.subarray(position, position + target.length));
    return target.length;
  }

  async close(): Promise<void> {}
}
