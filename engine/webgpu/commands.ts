import type { Operation } from '../../kernels/contract.ts';
import type { Extent } from '../../kernels/webgpu.ts';
import { SessionError } from '../errors.ts';
import { BufferUsage, type DeviceMemory } from './memory.ts';
import { ParameterBuffer } from './parameters.ts';

/** Dispatches between two submits, apart from recorded ones. */
const dispatchesPerSubmit = 256;
/** Larger writes make Dawn allocate a new staging buffer each time. */
const largestWrite = 4 * 2 ** 20;

/** What a compute pass is told of a call. */
export interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  /** Where its sizes and scalars lie among the parameters. */
  readonly offset: number;
  readonly extent: Extent;
}

/**
 * What is queued on a device: dispatches gather in one encoder and one pass until something has to happen before or after
 * them.
 */
export class Commands {
  /** Sizes and scalars of dispatches that were not submitted yet. */
  readonly parameters: ParameterBuffer;
  readonly #device: GPUDevice;
  readonly #memory: DeviceMemory;
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;

  constructor(device: GPUDevice, memory: DeviceMemory) {
    this.#device = device;
    this.#memory = memory;
    this.parameters = new ParameterBuffer(memory, dispatchesPerSubmit);
  }

  /** Takes a slot of the parameters for the next dispatch and returns its offset. */
  pushParameters(operation: Operation, values: Readonly<Record<string, number>>): number {
    if (this.parameters.full) this.submit();
    return this.parameters.push(operation, values);
  }

  dispatch({ pipeline, bindGroup, offset, extent }: Dispatch): void {
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#pass ??= this.#encoder.beginComputePass();
    this.#pass.setPipeline(pipeline);
    this.#pass.setBindGroup(0, bindGroup, [offset]);
    this.#pass.dispatchWorkgroups(...extent);
  }

  /** Bytes of a buffer as they are after what was queued. */
  read(buffer: GPUBuffer, size: number): Promise<ArrayBuffer> {
    return this.#memory.readBack(size, (staging) => {
      this.#endPass();
      this.#encoder ??= this.#device.createCommandEncoder();
      this.#encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
      this.submit();
    });
  }

  /**
   * Writes bytes that what is queued already does not see. Writes take multiples of four bytes; buffers are padded, so the
   * tail may be filled with zeros.
   */
  write(buffer: GPUBuffer, offset: number, bytes: Uint8Array): void {
    this.submit();
    const { queue } = this.#device;
    const whole = bytes.length & ~3;
    for (let start = 0; start < whole; start += largestWrite) {
      queue.writeBuffer(buffer, offset + start, bytes, start, Math.min(whole - start, largestWrite));
    }
    if (whole === bytes.length) return;
    const tail = new Uint8Array(4);
    tail.set(bytes.subarray(whole));
    queue.writeBuffer(buffer, offset + whole, tail);
  }

  submit(): void {
    this.#endPass();
    if (!this.#encoder) return;
    this.parameters.flush(this.#device.queue);
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = undefined;
  }

  /**
   * Milliseconds by the device's own clock that what `queue` queues takes, in a pass of its own.
   * @throws SessionError `invalid-argument` where that is more than fits in one pass
   */
  async time(queue: () => void): Promise<number> {
    this.submit();
    const querySet = this.#device.createQuerySet({ type: 'timestamp', count: 2 });
    const resolved = this.#memory.create('timestamps', 16, BufferUsage.queryResolve | BufferUsage.copySource);
    try {
      const encoder = this.#device.createCommandEncoder();
      this.#encoder = encoder;
      this.#pass = encoder.beginComputePass({
        timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
      });
      queue();
      if (this.#encoder !== encoder) {
        throw new SessionError(
          'invalid-argument',
          `Over ${dispatchesPerSubmit} dispatches, or a write, cannot be timed as one pass.`,
        );
      }
      this.#endPass();
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      const [begin, end] = new BigUint64Array(await this.read(resolved, 16));
      return Number(end! - begin!) / 1e6;
    } catch (cause) {
      // A pass that names the query set must not be submitted once that is gone.
      this.#encoder = this.#pass = undefined;
      this.parameters.discard();
      throw cause;
    } finally {
      querySet.destroy();
      this.#memory.destroy(resolved);
    }
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
  }
}
