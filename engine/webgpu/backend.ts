import {
  type DType,
  type HostArray,
  type Operation,
  product,
  resolve,
  resolveScalars,
  type ScalarArguments,
  type Scalars,
  sectionsOf,
  storedElementBytes,
  type Tensors,
} from '../../kernels/contract.ts';
import { ContractError, LlamaGuardError } from '../../kernels/errors.ts';
import type { AnyVariant, DeviceTraits, Extent } from '../../kernels/webgpu.ts';
import type {
  DeviceDescription,
  KernelBackend,
  KernelChoices,
  MemoryUse,
  Recording,
  Tensor,
  TuneOptions,
} from '../backend.ts';
import { DeviceError } from '../errors.ts';
import type { Preference } from '../preference.ts';
import { Lifetime, StoredRecording, usable } from '../stored.ts';
import { KernelChoice } from './choice.ts';
import { Commands, type Dispatch } from './commands.ts';
import { BufferUsage, DeviceMemory } from './memory.ts';
import { outliveEvents } from './outlive-events.ts';
import { ParameterBuffer, slotBytes } from './parameters.ts';
import { type Kernel, Pipelines } from './pipelines.ts';
import { DeviceTensor, planBlocks } from './tensor.ts';
import { type Tunable, tune } from './tune.ts';

export interface WebGpuBackendOptions {
  readonly description: DeviceDescription;
  readonly traits: DeviceTraits;
  /** Bytes that may be allocated in all; unlimited by default. */
  readonly memoryBudget?: number;
  /** Bytes of the largest binding, where less than the device's own limit is wanted. */
  readonly largestBinding?: number;
  /** Measured choices of variants; where they name none, the default order decides. */
  readonly choices?: KernelChoices;
  /**
   * The variant to run an operation by wherever it serves, whatever was measured, by their names; elsewhere the choice
   * stays the engine's. `{ matmul: 'int8' }` multiplies q8 weights in whole numbers, less exactly.
   */
  readonly prefer?: Preference;
}

/** An operation with everything resolved, before anything of the device is made for it. */
interface Call {
  readonly variant: AnyVariant;
  readonly dtypes: Readonly<Record<string, DType>>;
  /** In the contract's order. */
  readonly buffers: readonly GPUBuffer[];
  /** Lifetimes of its tensors. */
  readonly uses: readonly Lifetime[];
  readonly dims: Readonly<Record<string, number>>;
  /** Sizes and scalars. */
  readonly values: Readonly<Record<string, number>>;
  readonly extent: Extent;
}

/** Runs operations on a `GPUDevice`, Dawn's in Node.js or the browser's own. Owns the device. */
export class WebGpuBackend implements KernelBackend<AnyVariant>, Tunable {
  readonly description: DeviceDescription;
  readonly memoryBudget: number;
  readonly traits: DeviceTraits;
  #gpu: GPU | undefined;
  readonly #device: GPUDevice;
  readonly #memory: DeviceMemory;
  readonly #pipelines: Pipelines;
  readonly #choice: KernelChoice;
  readonly #commands: Commands;
  /** Bytes of the largest buffer that a kernel can be given. */
  readonly largestBinding: number;
  readonly #bufferIds = new WeakMap<GPUBuffer, number>();
  #nextBufferId = 0;
  /** Takes what is run while a recording is made. */
  #calls: Call[] | undefined;
  #failure: DeviceError | undefined;
  #disposed = false;

  /** @param gpu kept alive, since Dawn answers no promise of a device whose instance was collected. */
  constructor(gpu: GPU, device: GPUDevice, options: WebGpuBackendOptions) {
    this.#gpu = gpu;
    this.#device = device;
    this.description = options.description;
    this.memoryBudget = options.memoryBudget ?? Number.POSITIVE_INFINITY;
    this.traits = options.traits;
    this.largestBinding = Math.min(
      options.largestBinding ?? Number.POSITIVE_INFINITY,
      device.limits.maxStorageBufferBindingSize,
      device.limits.maxBufferSize,
    );
    this.#choice = new KernelChoice(this.traits, options.choices ?? new Map(), options.prefer ?? {});
    this.#memory = new DeviceMemory(device, this.memoryBudget);
    this.#pipelines = new Pipelines(device, this.traits.features);
    this.#commands = new Commands(device, this.#memory);
    device.addEventListener('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      const outOfMemory = error.constructor.name === 'GPUOutOfMemoryError';
      this.#failure ??= new DeviceError(outOfMemory ? 'out-of-memory' : 'device-failure', error.message);
    });
    void device.lost.then(({ reason, message }) => {
      if (this.#disposed) return;
      this.#failure = new DeviceError(
        'device-lost',
        `The device was lost (${reason}): ${message || 'no reason given'}. Open it again to go on.`,
      );
    });
  }

  get memory(): MemoryUse {
    const { liveBytes, peakBytes, buffersCreated } = this.#memory;
    return { liveBytes, peakBytes, buffersCreated, pipelinesCreated: this.#pipelines.created };
  }

  allocate(label: string, dtype: DType, shape: readonly number[]): DeviceTensor {
    this.#assertUsable();
    const usage = BufferUsage.storage | BufferUsage.copySource | BufferUsage.copyDestination;
    const blocks = planBlocks(dtype, shape, this.largestBinding).map(({ firstRow, rows, size }) => {
      const buffer = this.#memory.create(label, size, usage);
      this.#bufferIds.set(buffer, this.#nextBufferId++);
      return { buffer, firstRow, rows };
    });
    const lifetime = new Lifetime(`'${label}'`, () => {
      for (const { buffer } of blocks) this.#destroy(buffer);
    });
    return new DeviceTensor(label, dtype, shape, { blocks, lifetime });
  }

  write(tensor: Tensor, data: HostArray): void {
    this.#assertUsable();
    const target = asDeviceTensor(tensor);
    const { buffer } = target;
    if (data.byteLength > target.bytes || data.BYTES_PER_ELEMENT !== storedElementBytes(target.dtype)) {
      throw new ContractError(
        'shape-mismatch',
        `'${target.label}' holds ${target.bytes} bytes of ${target.dtype}; ${data.length} elements of ` +
          `${data.BYTES_PER_ELEMENT} bytes came.`,
      );
    }
    this.#commands.write(buffer, 0, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  writeRows(tensor: Tensor, firstRow: number, sections: readonly Uint8Array[]): void {
    this.#assertUsable();
    const target = asDeviceTensor(tensor);
    const [, ...rest] = target.shape;
    for (const block of target.blocks) {
      for (const [i, { offset, rowBytes }] of sectionsOf(target.dtype, [block.rows, ...rest]).entries()) {
        const bytes = sections[i]!;
        const from = Math.max(firstRow, block.firstRow);
        const to = Math.min(firstRow + bytes.length / rowBytes, block.firstRow + block.rows);
        if (from >= to) continue;
        const part = bytes.subarray((from - firstRow) * rowBytes, (to - firstRow) * rowBytes);
        this.#commands.write(block.buffer, offset + (from - block.firstRow) * rowBytes, part);
      }
    }
  }

  async read(tensor: Tensor): Promise<HostArray> {
    this.#assertUsable();
    const source = asDeviceTensor(tensor);
    const { buffer } = source;
    const size = Math.ceil(source.bytes / 4) * 4;
    try {
      const bytes = await this.#commands.read(buffer, size);
      if (this.#failure) throw this.#failure;
      const length = product(source.shape);
      if (source.dtype === 'f32') return new Float32Array(bytes, 0, length);
      return source.dtype === 'f16' ? new Uint16Array(bytes, 0, length) : new Uint32Array(bytes, 0, source.bytes / 4);
    } catch (cause) {
      throw await this.#explain(cause);
    }
  }

  run<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    tensors: Readonly<Record<keyof T, Tensor>>,
    scalars?: ScalarArguments<S>,
  ): void {
    this.#forEachBlock(operation, tensors, scalars ?? ({} as ScalarArguments<S>), (bound, offset) =>
      this.#call(operation, undefined, bound, offset),
    );
  }

  runVariant(
    variant: AnyVariant,
    tensors: Readonly<Record<string, Tensor>>,
    scalars: Readonly<Record<string, number>> = {},
  ): void {
    this.#call(variant.operation, variant, tensors, scalars);
  }

  /** The kernel that runs `operation` at these sizes. @throws ContractError `no-variant` */
  choose<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    dims: Readonly<Record<string, number>>,
    dtypes: Readonly<Record<string, DType>>,
    scalars: Readonly<Record<string, number>>,
  ): AnyVariant {
    return this.#choice.choose(operation, dims, dtypes, scalars);
  }

  /** Which variants were measured to be best, by class of shapes; see tune.ts. */
  get choices(): KernelChoices {
    return this.#choice.measured;
  }

  setChoice(shapes: string, variant: string | undefined): void {
    this.#choice.set(shapes, variant);
  }

  alternatives(task: () => void, share: number): Map<string, readonly string[]> {
    return this.#choice.alternatives(this.#collect(task), share);
  }

  record(task: () => void): Recording {
    const calls = this.#collect(task);
    // Every layer of a model has the same sizes.
    const keyOf = ({ variant, values }: Call) => `${variant.operation.name} ${Object.values(values).join()}`;
    const distinct = new Map(calls.map((call) => [keyOf(call), call] as const));
    const parameters = new ParameterBuffer(this.#memory, Math.max(1, distinct.size));
    const offsets = new Map(
      [...distinct].map(([key, { variant, values }]) => [key, parameters.push(variant.operation, values)] as const),
    );
    const dispatches = calls.map((call) => {
      const kernel = this.#pipelines.get(call.variant, call.dtypes);
      const bindGroup = this.#createBindGroup(kernel, parameters, call.buffers);
      return { pipeline: kernel.pipeline, bindGroup, offset: offsets.get(keyOf(call))!, extent: call.extent };
    });
    parameters.flush(this.#device.queue);
    const uses = calls.flatMap((call) => call.uses);
    return new StoredRecording(dispatches.length, dispatches, () => this.#destroy(parameters.buffer), uses);
  }

  replay(recording: Recording): void {
    this.#assertUsable();
    const { work } = recording as StoredRecording<readonly Dispatch[]>;
    for (const dispatch of work) this.#commands.dispatch(dispatch);
  }

  prepare(task: () => void): Promise<void> {
    return this.#pipelines.compile(this.#collect(task));
  }

  tune(pass: () => void, options?: TuneOptions): Promise<KernelChoices> {
    return tune(this, pass, options);
  }

  /** Up to an eighth more: eight sizes an octave. */
  paddedRows(count: number): number {
    const step = 2 ** Math.max(0, Math.floor(Math.log2(count)) - 3);
    return Math.ceil(count / step) * step;
  }

  async finish(): Promise<void> {
    this.#commands.submit();
    await this.#device.queue.onSubmittedWorkDone();
    this.#assertUsable();
  }

  /**
   * Milliseconds that the device itself spends on what `queue` queues, at most 256 dispatches, in a pass of their own;
   * undefined without the feature `timestamp-query`. Timestamps come in steps of 0.1 ms at most.
   */
  async time(queue: () => void): Promise<number | undefined> {
    this.#assertUsable();
    if (!this.traits.features.has('timestamp-query')) return undefined;
    try {
      return await this.#commands.time(queue);
    } catch (cause) {
      throw cause instanceof LlamaGuardError ? cause : await this.#explain(cause);
    }
  }

  /** Gives the device up as if it had been lost: for tests of what happens then. */
  loseDevice(): void {
    this.#device.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#pipelines.clear();
    this.#memory.destroyAll();
    this.#device.destroy();
    await this.#device.lost;
    await outliveEvents(this.#gpu!);
    this.#gpu = undefined;
  }

  #forEachBlock<T extends Tensors, S extends Scalars>(
    { splits }: Operation<T, S>,
    tensors: Readonly<Record<keyof T, Tensor>>,
    scalars: ScalarArguments<S>,
    each: (tensors: Readonly<Record<keyof T, Tensor>>, scalars: ScalarArguments<S>) => void,
  ): void {
    const split = splits && asDeviceTensor(tensors[splits.tensor]);
    if (!splits || !split || split.blocks.length === 1) {
      each(tensors, scalars);
      return;
    }
    for (const block of split.blocks) {
      each(
        { ...tensors, [splits.tensor]: split.block(block) },
        { ...scalars, [splits.offset]: (scalars[splits.offset] ?? 0) + block.firstRow },
      );
    }
  }

  #call<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    variant: AnyVariant | undefined,
    tensors: Readonly<Record<keyof T, Tensor>>,
    given: ScalarArguments<S>,
  ): void {
    this.#assertUsable();
    const dims = resolve(operation, tensors);
    const scalars = resolveScalars(operation, dims, given);
    const dtypes = Object.fromEntries(Object.keys(operation.tensors).map((name) => [name, tensors[name]!.dtype]));
    const chosen = variant ?? this.choose(operation, dims, dtypes, scalars);
    const extent = chosen.workgroups(dims, scalars);
    if (extent.some((size) => size === 0)) return;
    assertDispatchable(chosen, extent, this.#device.limits.maxComputeWorkgroupsPerDimension);
    const bound = Object.keys(operation.tensors).map((name) => asDeviceTensor(tensors[name]!));
    const buffers = bound.map(({ buffer }) => buffer);
    const uses = bound.map(({ lifetime }) => lifetime);
    const call = { variant: chosen, dtypes, buffers, uses, dims, values: { ...scalars, ...dims }, extent };
    if (this.#calls) this.#calls.push(call);
    else this.#queue(call);
  }

  #collect(task: () => void): Call[] {
    const calls: Call[] = [];
    this.#calls = calls;
    try {
      task();
    } finally {
      this.#calls = undefined;
    }
    return calls;
  }

  #queue({ variant, dtypes, buffers, values, extent }: Call): void {
    const kernel = this.#pipelines.get(variant, dtypes);
    const offset = this.#commands.pushParameters(variant.operation, values);
    const key = buffers.map((buffer) => this.#bufferIds.get(buffer)).join();
    const bindGroup = kernel.bindGroups.get(key) ?? this.#createBindGroup(kernel, this.#commands.parameters, buffers);
    kernel.bindGroups.set(key, bindGroup);
    this.#commands.dispatch({ pipeline: kernel.pipeline, bindGroup, offset, extent });
  }

  #createBindGroup({ layout }: Kernel, parameters: ParameterBuffer, buffers: readonly GPUBuffer[]): GPUBindGroup {
    return this.#device.createBindGroup({
      layout,
      entries: [
        { binding: 0, resource: { buffer: parameters.buffer, size: slotBytes } },
        ...buffers.map((buffer, i) => ({ binding: i + 1, resource: { buffer } })),
      ],
    });
  }

  /** What is queued already may name the buffer, and would fail without it. */
  #destroy(buffer: GPUBuffer): void {
    if (!this.#disposed && !this.#failure) this.#commands.submit();
    this.#memory.destroy(buffer);
  }

  #assertUsable(): void {
    if (this.#failure) throw this.#failure;
    if (this.#disposed) throw new DeviceError('device-unavailable', 'This device was disposed; open another.');
  }

  /** A rejected read most often means a lost device, of which the promise may tell a moment later. */
  async #explain(cause: unknown): Promise<unknown> {
    if (cause instanceof DeviceError) return cause;
    await new Promise((resolve) => setTimeout(resolve, 0));
    return this.#failure ?? new DeviceError('device-failure', `Reading from the device failed: ${cause}`, { cause });
  }
}

const asDeviceTensor = (tensor: Tensor): DeviceTensor => usable(DeviceTensor, tensor);

/** @throws ContractError where WebGPU would refuse the dispatch, and with it all that is queued */
function assertDispatchable({ name, operation }: AnyVariant, extent: Extent, most: number): void {
  if (extent.every((size) => size <= most)) return;
  throw new ContractError(
    'shape-mismatch',
    `'${name}' would run '${operation.name}' in ${extent.join(' x ')} workgroups, of which a dimension holds ${most}.`,
  );
}
