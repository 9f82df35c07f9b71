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
import { Lifetime, StoredRecording, StoredTensor, usable } from '../stored.ts';
import { kernels } from './kernels.ts';

interface Storage {
  readonly data: StoredArray;
  readonly lifetime: Lifetime;
}

class CpuTensor extends StoredTensor implements Storage {
  readonly data: StoredArray;

  constructor(label: string, dtype: DType, shape: readonly number[], storage: Storage, isView = false) {
    super(label, dtype, shape, storage.lifetime, isView);
    this.data = storage.data;
  }

  view(shape: readonly number[]): CpuTensor {
    this.assertHasView(shape, this.dtype, this.data.byteLength);
    return new CpuTensor(this.label, this.dtype, shape, this, true);
  }
}

/** An operation with everything resolved. */
interface Call {
  readonly run: () => void;
  /** Lifetimes of its tensors. */
  readonly uses: readonly Lifetime[];
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
  #calls: Call[] | undefined;
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
    const lifetime = new Lifetime(`'${label}'`, () => {
      if (this.#live.delete(allocation)) this.#liveBytes -= size;
    });
    return new CpuTensor(label, dtype, shape, { data, lifetime });
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
    const bound = names.map((name) => asCpuTensor(tensors[name]!));
    const arrays = Object.fromEntries(bound.map(({ data }, i) => [names[i]!, data]));
    const dtypes = Object.fromEntries(names.map((name) => [name, tensors[name]!.dtype]));
    const kernel = kernels[operation.name] as AnyCpuVariant['run'];
    const run = () => kernel(arrays, dims, scalars, dtypes);
    if (this.#calls) this.#calls.push({ run, uses: bound.map(({ lifetime }) => lifetime) });
    else run();
  }

  record(task: () => void): Recording {
    const calls: Call[] = [];
    this.#calls = calls;
    try {
      task();
    } finally {
      this.#calls = undefined;
    }
    const uses = calls.flatMap((call) => call.uses);
    return new StoredRecording(calls.length, calls, () => {}, uses);
  }

  replay(recording: Recording): void {
    this.#assertUsable();
    for (const { run } of (recording as StoredRecording<readonly Call[]>).work) run();
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

const asCpuTensor = (tensor: Tensor): CpuTensor => usable(CpuTensor, tensor);
