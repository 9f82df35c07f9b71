import type { Operation } from '../../kernels/contract.ts';
import { parameters } from '../../kernels/contract.ts';
import { BufferUsage, type DeviceMemory } from './memory.ts';

/** Dynamic uniform offsets are multiples of 256 bytes on every device; no operation has 64 parameters. */
export const slotBytes = 256;

/** Sizes and scalars of a number of dispatches, a slot each, in one uniform buffer that dispatches point into. */
export class ParameterBuffer {
  readonly buffer: GPUBuffer;
  readonly slots: number;
  readonly #bytes: ArrayBuffer;
  readonly #view: DataView;
  #used = 0;

  constructor(memory: DeviceMemory, slots: number) {
    this.slots = slots;
    this.buffer = memory.create('parameters', slots * slotBytes, BufferUsage.uniform | BufferUsage.copyDestination);
    this.#bytes = new ArrayBuffer(slots * slotBytes);
    this.#view = new DataView(this.#bytes);
  }

  get full(): boolean {
    return this.#used === this.slots;
  }

  /** @returns the slot's byte offset */
  push(operation: Operation, values: Readonly<Record<string, number>>): number {
    const offset = this.#used++ * slotBytes;
    parameters(operation).forEach(({ name, type }, i) => {
      if (type === 'u32') this.#view.setUint32(offset + 4 * i, values[name]!, true);
      else this.#view.setFloat32(offset + 4 * i, values[name]!, true);
    });
    return offset;
  }

  /** Forgets what was pushed. */
  discard(): void {
    this.#used = 0;
  }

  /** Sends what was pushed and begins anew. */
  flush(queue: GPUQueue): void {
    if (this.#used > 0) queue.writeBuffer(this.buffer, 0, this.#bytes, 0, this.#used * slotBytes);
    this.#used = 0;
  }
}
