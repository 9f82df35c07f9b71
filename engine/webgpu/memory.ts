import { outOfMemory } from '../out-of-memory.ts';

/** The values of WebGPU's `GPUBufferUsage`, which Node.js does not have as a global. */
export const BufferUsage = {
  mapRead: 0x0001,
  copySource: 0x0004,
  copyDestination: 0x0008,
  uniform: 0x0040,
  storage: 0x0080,
  queryResolve: 0x0200,
} as const;

/** `GPUMapMode.READ`. */
const MAP_READ = 0x0001;

/** Creates every buffer of a device, and knows what is alive. */
export class DeviceMemory {
  liveBytes = 0;
  peakBytes = 0;
  buffersCreated = 0;
  readonly #device: GPUDevice;
  readonly #budget: number;
  readonly #live = new Map<GPUBuffer, number>();
  readonly #staging: GPUBuffer[] = [];

  constructor(device: GPUDevice, budget: number) {
    this.#device = device;
    this.#budget = budget;
  }

  create(label: string, size: number, usage: number): GPUBuffer {
    if (this.liveBytes + size > this.#budget) {
      const live = Array.from(this.#live, ([buffer, bytes]) => ({ label: buffer.label, size: bytes }));
      throw outOfMemory({ label, size }, this.#budget, live);
    }
    const buffer = this.#device.createBuffer({ label, size, usage });
    this.#live.set(buffer, size);
    this.liveBytes += size;
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    this.buffersCreated++;
    return buffer;
  }

  destroy(buffer: GPUBuffer): void {
    const size = this.#live.get(buffer);
    if (size === undefined) return;
    this.#live.delete(buffer);
    this.liveBytes -= size;
    buffer.destroy();
  }

  /** Bytes of `buffer`, once `copy` has been queued into a staging buffer; staging buffers are kept and used again. */
  async readBack(size: number, copy: (staging: GPUBuffer) => void): Promise<ArrayBuffer> {
    const fits = this.#staging.findIndex((buffer) => buffer.size >= size);
    const staging =
      fits >= 0
        ? this.#staging.splice(fits, 1)[0]!
        : this.create(
            'staging',
            Math.max(4096, 2 ** Math.ceil(Math.log2(size))),
            BufferUsage.mapRead | BufferUsage.copyDestination,
          );
    copy(staging);
    await staging.mapAsync(MAP_READ, 0, size);
    const bytes = staging.getMappedRange(0, size).slice(0);
    staging.unmap();
    this.#staging.push(staging);
    return bytes;
  }

  destroyAll(): void {
    for (const buffer of [...this.#live.keys()]) this.destroy(buffer);
    this.#staging.length = 0;
  }
}
