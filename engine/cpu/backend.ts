import {
  type DType,
  type HostArray,
  type Operation,
  resolve,
  resolveScalars,
  type ScalarArguments,
  type Scalars,
  type StoredArray,
  sectionsOf,
  storedArray,
  storedBytes,
  storedElementBytes,
  type Tensors,
} from '../../kernels/contract.ts';
import type { AnyCpuVariant } from '../../kernels/cpu.ts';
import { ContractError } from '../../kernels/errors.ts';
import type { Backend, DeviceDescription, MemoryUse, Recording, Tensor } from '../backend.ts';
import { DeviceError } from '../errors.ts';
import { type Allocation, outOfMemory } from '../out-of-memory.ts';
import { kernels } from './kernels.ts';

class CpuTensor implements Tensor {
  readonly label: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly data: StoredArray;
  readonly #free: () => void;

  constructor(label: string, dtype: DType, shape: readonly number[], data: StoredArray, free: () => void) {
    this.label = label;
    this.dtype = dtype;
    this.shape = shape;
    this.data = data;
    this.#free = free;
  }

  view(shape: readonly number[]): CpuTensor {
    if (storedBytes(this.dtype, shape) > this.data.byteLength) {
      throw new ContractError(
        'shape-mismatch',
        `'${this.label}' of shape (${this.shape.join(', ')}) has no view of shape (${shape.join(', ')}).`,
      );
    }
    return new CpuTensor(this.label, this.dtype, shape, this.data, this.#free);
  }

  [Symbol.dispose](): void {
    this.#free();
  }
}

class CpuRecording implements Recording {
  readonly calls: readonly (() => void)[];

  constructor(calls: readonly (() => void)[]) {
    this.calls = calls;
  }

  get operations(): number {
    return this.calls.length;
  }

  [Symbol.dispose](): void {}
}

/** Runs operations on the processor, in this thread: each is done when `run` returns. */
export class CpuBackend implements Backend {
  readonly description: DeviceDescription = {
    kind: 'cpu',
    name: 'TypeScript on one thread',
    hardware: '',
    software: false,
    threads: 1,
    features: [],
  };
  readonly memoryBudget: number;
  readonly #live = new Set<Allocation>();
  #liveBytes = 0;
  #peakBytes = 0;
  #buffersCreated = 0;
  /** Takes what is run while a recording is made. */
  #calls: (() => void)[] | undefined;
  #disposed = false;

  constructor(options: { readonly memoryBudget?: number } = {}) {
    this.memoryBudget = options.memoryBudget ?? Number.POSITIVE_INFINITY;
  }

  get memory(): MemoryUse {
    return {
      liveBytes: this.#liveBytes,
      peakBytes: this.#peakBytes,
      buffersCreated: this.#buffersCreated,
      pipelinesCreated: 0,
    };
  }

  allocate(label: string, dtype: DType, shape: readonly number[]): CpuTensor {
    this.#assertUsable();
    const size = storedBytes(dtype, shape);
    const allocation = { label, size };
    if (this.#liveBytes + size > this.memoryBudget) throw outOfMemory(allocation, this.memoryBudget, this.#live);
    const data = storedArray(dtype, size / storedElementBytes(dtype));
    this.#live.add(allocation);
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    this.#buffersCreated++;
    return new CpuTensor(label, dtype, shape, data, () => {
      if (this.#live.delete(allocation)) this.#liveBytes -= size;
    });
  }

  write(tensor: Tensor, data: HostArray): void {
    const { data: target } = asCpuTensor(tensor);
    if (data.length > target.length || data.BYTES_PER_ELEMENT !== target.BYTES_PER_ELEMENT) {
      throw new ContractError('shape-mismatch', `'${tensor.label}' cannot take ${data.length} elements.`);
    }
    target.set(data);
  }

  writeRows(tensor: Tensor, firstRow: number, sections: readonly Uint8Array[]): void {
    const { data, dtype, shape } = asCpuTensor(tensor);
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (const [i, { offset, rowBytes }] of sectionsOf(dtype, shape).entries()) {
      bytes.set(sections[i]!, offset + firstRow * rowBytes);
    }
  }

  async read(tensor: Tensor): Promise<HostArray> {
    this.#assertUsable();
    const { data, dtype, shape } = asCpuTensor(tensor);
    return data.slice(0, storedBytes(dtype, shape) / data.BYTES_PER_ELEMENT);
  }

  run<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    tensors: Readonly<Record<keyof T, Tensor>>,
    given?: ScalarArguments<S>,
  ): void {
    this.#assertUsable();
    const dims = resolve(operation, tensors);
    const scalars = resolveScalars(operation, dims, given ?? ({} as ScalarArguments<S>));
    const names = Object.keys(operation.tensors);
    const arrays = Object.fromEntries(names.map((name) => [name, asCpuTensor(tensors[name]!).data]));
    const dtypes = Object.fromEntries(names.map((name) => [name, tensors[name]!.dtype]));
    const kernel = kernels[operation.name] as AnyCpuVariant['run'];
    const call = () => kernel(arrays, dims, scalars, dtypes);
    if (this.#calls) this.#calls.push(call);
    else call();
  }

  record(task: () => void): CpuRecording {
    const calls: (() => void)[] = [];
    this.#calls = calls;
    try {
      task();
    } finally {
      this.#calls = undefined;
    }
    return new CpuRecording(calls);
  }

  replay(recording: Recording): void {
    this.#assertUsable();
    for (const call of (recording as CpuRecording).calls) call();
  }

  async prepare(): Promise<void> {}

  /** Rows cost what they cost: none are added. */
  paddedRows(count: number): number {
    return count;
  }

  async finish(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#live.clear();
    this.#liveBytes = 0;
  }

  #assertUsable(): void {
    if (this.#disposed) throw new DeviceError('device-unavailable', 'This backend was disposed; open another.');
  }
}

function asCpuTensor(tensor: Tensor): CpuTensor {
  if (tensor instanceof CpuTensor) return tensor;
  throw new ContractError('shape-mismatch', `'${tensor.label}' does not live on this device.`);
}
