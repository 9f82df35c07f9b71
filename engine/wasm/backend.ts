import { chooseVariant } from '../../kernels/choice.ts';
import {
  type AnyOperation,
  type DType,
  type HostArray,
  type Operation,
  resolve,
  resolveScalars,
  type ScalarArguments,
  type Scalars,
  sectionsOf,
  storedArray,
  storedBytes,
  storedElementBytes,
  type Tensors,
} from '../../kernels/contract.ts';
import { ContractError } from '../../kernels/errors.ts';
import { tileRows } from '../../kernels/matmul/panels.ts';
import type { WasmFeature } from '../../kernels/wasm/features.ts';
import { type AnyWasmVariant, assembleModule, parameterBlock } from '../../kernels/wasm/kernel.ts';
import type { DeviceDescription, KernelBackend, MemoryUse, Recording, Tensor } from '../backend.ts';
import type { Preference } from '../preference.ts';
import { Conversions } from '../safetensors/simd.ts';
import { Lifetime, StoredRecording } from '../stored.ts';
import { type LinearMemory, noteAddress } from './memory.ts';
import { type Call, type Program, programOf } from './program.ts';
import { asLinearTensor, LinearTensor } from './tensor.ts';
import { disposed, type Executor, type ScratchPlaces } from './threads.ts';
import { kernels } from './variants.ts';

/** What waits for its turn: a program for the threads, or something to be done between two programs. */
type Task =
  | { readonly program: Program; readonly done: () => void }
  | { readonly action: () => void; readonly fail?: (error: unknown) => void };

const scratchLabel = 'scratch of kernels';

export interface WasmBackendOptions {
  readonly description: DeviceDescription;
  readonly memory: LinearMemory;
  readonly memoryBudget: number;
  readonly memoryBound: string | undefined;
  readonly executor: Executor;
  readonly features: ReadonlySet<WasmFeature>;
  /**
   * The variant to run an operation by wherever it serves, by their names; elsewhere the choice stays the engine's.
   * `{ matmul: 'int8' }` multiplies q8 weights by numbers of seven bits, less exactly.
   */
  readonly prefer: Preference;
}

/**
 * Runs operations on the processor, as WebAssembly SIMD on threads of their own over one memory. What is asked for is
 * queued: programs run one after another, and what writes or frees memory waits for the programs before it.
 */
export class WasmBackend implements KernelBackend<AnyWasmVariant> {
  readonly description: DeviceDescription;
  readonly memoryBudget: number;
  readonly memoryBound: string | undefined;
  readonly features: ReadonlySet<WasmFeature>;
  readonly #memory: LinearMemory;
  readonly #conversions: Conversions;
  /** What the engine has the features for, by operation. */
  readonly #variants: ReadonlyMap<string, readonly AnyWasmVariant[]>;
  readonly #prefer: Preference;
  readonly #executor: Executor;
  /** Numbers of kernels by what they are made for. */
  readonly #kernels = new Map<string, number>();
  #buffersCreated = 0;
  #scratch: ScratchPlaces & { readonly sharedBytes: number } = { shared: 0, own: 0, ownBytes: 0, sharedBytes: 0 };
  /** Takes what is run while a recording is made. */
  #calls: Call[] | undefined;
  readonly #tasks: Task[] = [];
  #running = false;
  /** Of programs after which nothing was read. */
  #failure: unknown;
  #disposed = false;

  constructor(options: WasmBackendOptions) {
    this.description = options.description;
    this.memoryBudget = options.memoryBudget;
    this.memoryBound = options.memoryBound;
    this.features = options.features;
    this.#memory = options.memory;
    this.#conversions = new Conversions(options.memory.memory, options.memory.type, noteAddress);
    this.#executor = options.executor;
    this.#variants = new Map(
      Object.entries(kernels).map(([name, all]) => [
        name,
        all.filter(({ needs }) => needs.every((feature) => this.features.has(feature))),
      ]),
    );
    this.#prefer = options.prefer;
  }

  get threads(): number {
    return this.#executor.threads;
  }

  get memory(): MemoryUse {
    const { liveBytes, peakBytes } = this.#memory;
    return { liveBytes, peakBytes, buffersCreated: this.#buffersCreated, pipelinesCreated: this.#kernels.size };
  }

  allocate(label: string, dtype: DType, shape: readonly number[]): LinearTensor {
    this.#assertUsable();
    const capacity = storedBytes(dtype, shape);
    const address = this.#allocate(label, capacity);
    const lifetime = new Lifetime(`'${label}'`, () => this.#free(address));
    return new LinearTensor(label, dtype, shape, { address, capacity, lifetime });
  }

  write(tensor: Tensor, data: HostArray): void {
    const { label, dtype, shape } = tensor;
    const expected = storedBytes(dtype, shape) / storedElementBytes(dtype);
    if (data.length > expected || data.BYTES_PER_ELEMENT !== storedElementBytes(dtype)) {
      throw new ContractError(
        'shape-mismatch',
        `'${label}' holds ${expected} elements of ${dtype}; ${data.length} of ${data.BYTES_PER_ELEMENT} bytes came.`,
      );
    }
    this.#write(asLinearTensor(tensor).address, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }

  writeRows(tensor: Tensor, firstRow: number, sections: readonly Uint8Array[]): void {
    const { address, dtype, shape } = asLinearTensor(tensor);
    for (const [i, { offset, rowBytes }] of sectionsOf(dtype, shape).entries()) {
      this.#write(address + offset + firstRow * rowBytes, sections[i]!);
    }
  }

  rowsInPlace(tensor: Tensor, firstRow: number, rows: number): Uint8Array[] | undefined {
    this.#assertUsable();
    if (!this.#idle) return undefined;
    const { address, dtype, shape } = asLinearTensor(tensor);
    return sectionsOf(dtype, shape).map(({ offset, rowBytes }) => {
      const begin = address + offset + firstRow * rowBytes;
      return this.#memory.bytes.subarray(begin, begin + rows * rowBytes);
    });
  }

  /** In the calling thread: each piece while it is in the caches and the next are being read. */
  roundInPlace(bytes: Uint8Array): number | undefined {
    this.#assertUsable();
    return this.#conversions.toF16(bytes, 'BF16');
  }

  async read(tensor: Tensor): Promise<HostArray> {
    const { address, bytes, dtype } = asLinearTensor(tensor);
    return this.#after(() => {
      const copy = storedArray(dtype, bytes / storedElementBytes(dtype));
      new Uint8Array(copy.buffer).set(this.#memory.bytes.subarray(address, address + bytes));
      return copy;
    });
  }

  run<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    tensors: Readonly<Record<keyof T, Tensor>>,
    scalars?: ScalarArguments<S>,
  ): void {
    this.#submit(this.#resolve(operation, undefined, tensors, scalars ?? ({} as ScalarArguments<S>)));
  }

  runVariant(
    variant: AnyWasmVariant,
    tensors: Readonly<Record<string, Tensor>>,
    scalars: Readonly<Record<string, number>> = {},
  ): void {
    this.#submit(this.#resolve(variant.operation, variant, tensors, scalars));
  }

  record(task: () => void): Recording {
    const calls = this.#collect(task);
    const program = this.#assemble(calls);
    const uses = calls.flatMap((call) => call.uses);
    return new StoredRecording(calls.length, program, () => this.#free(program.address), uses);
  }

  replay(recording: Recording): void {
    this.#assertUsable();
    this.#queue((recording as StoredRecording<Program>).work, () => {});
  }

  /** @throws DeviceError `out-of-memory` where kernels would have no room for their working memory later */
  async prepare(task: () => void): Promise<void> {
    // It grows with what is run, and the old is there until the new is.
    this.#memory.assertRoom(scratchLabel, 2 * this.#scratchFor(this.#collect(task)).bytes);
  }

  /** Up to whole tiles of the matrix kernels, which cost the same. */
  paddedRows(count: number): number {
    return count < tileRows ? count : Math.ceil(count / tileRows) * tileRows;
  }

  finish(): Promise<void> {
    return this.#after(() => {});
  }

  /** Ends a thread, as if it had died: for tests of what happens then. */
  loseDevice(): void {
    this.#executor.interrupt();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    const ended = this.#executor.dispose();
    this.#failAll(disposed());
    this.#memory.freeAll();
    await ended;
  }

  #allocate(label: string, bytes: number): number {
    const address = this.#memory.allocate(label, bytes);
    this.#buffersCreated++;
    return address;
  }

  /** Once what was queued before is done. */
  #free(address: number): void {
    if (!this.#disposed) this.#act(() => this.#memory.free(address));
  }

  #resolve<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    asked: AnyWasmVariant | undefined,
    tensors: Readonly<Record<keyof T, Tensor>>,
    values: ScalarArguments<S>,
  ): Call {
    this.#assertUsable();
    const dims = resolve(operation, tensors);
    const scalars = resolveScalars(operation, dims, values);
    const names = Object.keys(operation.tensors);
    const dtypes = Object.fromEntries(names.map((name) => [name, tensors[name]!.dtype]));
    const { name } = operation;
    const variant = asked ?? chooseVariant(this.#variants.get(name) ?? [], dims, dtypes, this.#prefer[name]);
    const given = names.map((name) => asLinearTensor(tensors[name]!));
    const addresses = Object.fromEntries(given.map(({ address }, i) => [names[i]!, address]));
    const stages = variant.stages.map((stage, i) => ({
      kernel: this.#kernelOf(variant, i, variant.specialise(dims), dtypes),
      units: stage.units(dims, scalars),
    }));
    const parameters = parameterBlock(operation as AnyOperation, { ...dims, ...scalars }, addresses);
    const uses = given.map(({ lifetime }) => lifetime);
    return { variant, scratch: variant.scratch(dims, dtypes), stages, parameters, uses };
  }

  #kernelOf(
    variant: AnyWasmVariant,
    stage: number,
    constants: Readonly<Record<string, number>>,
    dtypes: Readonly<Record<string, DType>>,
  ): number {
    const key = JSON.stringify([variant.operation.name, variant.name, stage, constants, dtypes]);
    const known = this.#kernels.get(key);
    if (known !== undefined) return known;
    const target = { constants, dtypes, features: this.features };
    this.#executor.load(assembleModule(variant, variant.stages[stage]!, target, this.#memory.type));
    const number = this.#kernels.size;
    this.#kernels.set(key, number);
    return number;
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

  #submit(call: Call): void {
    if (this.#calls) {
      this.#calls.push(call);
      return;
    }
    const program = this.#assemble([call], false);
    this.#queue(program, () => this.#memory.free(program.address));
  }

  /** Writes a program that makes these calls into memory. */
  #assemble(calls: readonly Call[], counted = true): Program {
    this.#reserveScratch(calls);
    const { words, stages } = programOf(calls);
    const bytes = words.byteLength;
    const address = counted ? this.#allocate('recording', bytes) : this.#memory.allocate('call', bytes);
    new Uint32Array(this.#memory.memory.buffer, address, words.length).set(words);
    return { address, stages };
  }

  /** Makes the working memory large enough, and frees the old once what uses it is done. */
  #reserveScratch(calls: readonly Call[]): void {
    const before = this.#scratch;
    const { sharedBytes, ownBytes, bytes } = this.#scratchFor(calls);
    if (ownBytes === before.ownBytes && sharedBytes === before.sharedBytes) return;
    const shared = this.#allocate(scratchLabel, bytes);
    this.#scratch = { shared, sharedBytes, own: shared + sharedBytes, ownBytes };
    this.#free(before.shared);
  }

  /** The working memory that is large enough for some calls too, as one block: what all share, and each thread's own. */
  #scratchFor(calls: readonly Call[]): { sharedBytes: number; ownBytes: number; bytes: number } {
    const padded = (bytes: number) => Math.ceil(bytes / 64) * 64;
    const sharedBytes = Math.max(this.#scratch.sharedBytes, ...calls.map(({ scratch }) => padded(scratch.shared)));
    const ownBytes = Math.max(this.#scratch.ownBytes, ...calls.map(({ scratch }) => padded(scratch.own)));
    return { sharedBytes, ownBytes, bytes: sharedBytes + ownBytes * this.threads };
  }

  #write(address: number, bytes: Uint8Array): void {
    this.#assertUsable();
    const put = (data: Uint8Array) => this.#memory.bytes.set(data, address);
    if (this.#idle) put(bytes);
    else {
      const copy = bytes.slice();
      this.#act(() => put(copy));
    }
  }

  get #idle(): boolean {
    return !this.#running && this.#tasks.length === 0;
  }

  #queue(program: Program, done: () => void): void {
    const first = this.#idle;
    this.#tasks.push({ program, done });
    // What is queued until the caller lets go is run together.
    if (first) queueMicrotask(() => this.#advance());
  }

  /** Does something once what was queued before is done; at once where nothing is. */
  #act(action: () => void, fail?: (error: unknown) => void): void {
    if (this.#idle) action();
    else this.#tasks.push(fail ? { action, fail } : { action });
  }

  #after<T>(action: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = () => {
        const failure = this.#failure;
        this.#failure = undefined;
        if (failure) reject(failure);
        else resolve(action());
      };
      if (this.#disposed) reject(disposed());
      else this.#act(settle, reject);
    });
  }

  /** Goes through the queue as far as it can without waiting. */
  #advance(): void {
    if (this.#running || this.#disposed) return;
    while (this.#tasks[0] && 'action' in this.#tasks[0]) (this.#tasks.shift() as { action(): void }).action();
    const batch: (Task & { program: Program })[] = [];
    for (let task = this.#tasks[0]; task && 'program' in task; task = this.#tasks[0]) {
      // A program counts the units that were taken, so it is in a batch once.
      if (batch.some(({ program }) => program === (task as { program: Program }).program)) break;
      batch.push(task);
      this.#tasks.shift();
    }
    if (batch.length === 0) return;
    this.#running = true;
    const programs = batch.map(({ program }) => program);
    this.#executor.run(programs, this.#scratch).then(
      () => this.#settle(batch, undefined),
      (error) => this.#settle(batch, error),
    );
  }

  #settle(batch: readonly (Task & { program: Program; done?: () => void })[], error: unknown): void {
    this.#running = false;
    if (this.#disposed) error ??= disposed();
    else for (const task of batch) task.done?.();
    if (error) this.#failAll(error);
    else this.#advance();
  }

  /** Nobody may read what programs that did not run would have written; memory is put in order all the same. */
  #failAll(error: unknown): void {
    const tasks = this.#tasks.splice(0);
    let heard = this.#disposed;
    for (const task of tasks) {
      if ('program' in task) {
        if (!this.#disposed) task.done();
      } else if (task.fail) {
        task.fail(error);
        heard = true;
      } else if (!this.#disposed) task.action();
    }
    if (!heard) this.#failure = error;
  }

  #assertUsable(): void {
    if (this.#disposed) throw disposed();
  }
}
