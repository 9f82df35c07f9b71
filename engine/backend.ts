// For programs whose own libraries have no Disposable, since ES2022 has none: the declarations carry it along.
/// <reference lib="esnext.disposable" preserve="true" />

import type {
  DType,
  HostArray,
  Operation,
  ScalarArguments,
  Scalars,
  TensorLike,
  Tensors,
} from '../kernels/contract.ts';

/**
 * A block of numbers in a backend's memory. Views share storage and own nothing; who allocated it disposes it, and then
 * whatever takes it, or a view of it, throws SessionError `disposed`.
 */
export interface Tensor extends TensorLike {
  readonly label: string;
  /** The first elements of this storage under another shape; throws ContractError where they do not fit. */
  view(shape: readonly number[]): Tensor;
  /** Frees the storage once what was queued is done; idempotent, and of a view nothing. */
  [Symbol.dispose](): void;
}

/** What is said of a device to a person. */
export interface DeviceDescription {
  readonly kind: 'webgpu' | 'cpu';
  /** As the driver names it. */
  readonly name: string;
  /** Maker, architecture and model, as far as they are told. */
  readonly hardware: string;
  /** Whether a processor plays the GPU; its speed must never be reported as a GPU's. */
  readonly software: boolean;
  /** Threads of the processor that compute; of no meaning on a GPU. */
  readonly threads?: number;
  readonly features: readonly string[];
}

/** Bytes and buffers that a backend holds; what `dispose` has to bring back to zero. */
export interface MemoryUse {
  readonly liveBytes: number;
  readonly peakBytes: number;
  /** Buffers ever created: constant between two requests once warmed up. */
  readonly buffersCreated: number;
  /** Pipelines ever created: likewise. */
  readonly pipelinesCreated: number;
}

/** Names of kernel variants by class of shapes: which was measured to serve such sizes best on one adapter. */
export type KernelChoices = ReadonlyMap<string, string>;

/** What is said while kernels are measured: classes of shapes done, of how many, and the last choice. */
export type OnTuning = (progress: { readonly done: number; readonly total: number; readonly choice: string }) => void;

export interface TuneOptions {
  readonly onProgress?: OnTuning;
  readonly signal?: AbortSignal;
}

/** Operations that were recorded once, on the tensors they are to run on, and can be queued any number of times. */
export interface Recording extends Disposable {
  /** How many operations it holds. */
  readonly operations: number;
}

/**
 * Where tensors live and operations run. Operations are queued in order and take effect in order; `read` waits for
 * what was queued before it. Everything up to the returned promise of `read` happens synchronously, so callers that
 * queue a whole forward pass and its read without awaiting in between never see each other's numbers.
 */
export interface Backend {
  readonly description: DeviceDescription;
  readonly memory: MemoryUse;
  /** Bytes that may be allocated in all. */
  readonly memoryBudget: number;
  /** Why a larger budget cannot be given, where that is so. */
  readonly memoryBound?: string | undefined;
  /** Bytes of the largest tensor that an operation takes whole, where there is a limit: all but weights, which are split. */
  readonly largestBinding?: number;

  /** Zero-filled. @throws DeviceError `out-of-memory` over the budget. */
  allocate(label: string, dtype: DType, shape: readonly number[]): Tensor;
  /** Writes the first elements of `tensor`. */
  write(tensor: Tensor, data: HostArray): void;
  /**
   * Writes whole rows as they are stored: for each of the tensor's sections (`sectionsOf`) the bytes of as many rows.
   * They begin on four bytes, as every even row does, and end so or with the tensor; the bytes are copied.
   */
  writeRows(tensor: Tensor, firstRow: number, sections: readonly Uint8Array[]): void;
  /**
   * The memory of whole rows as they are stored, a part for each of the tensor's sections, to be filled in the place of
   * `writeRows`. Nothing may be allocated or run until it is. Undefined where the memory is out of reach or in use; absent
   * where it always is.
   */
  rowsInPlace?(tensor: Tensor, firstRow: number, rows: number): readonly Uint8Array[] | undefined;
  /**
   * Rounds bfloat16 numbers, which were put into memory of `rowsInPlace`, to f16 where they are, to nearest, ties to even.
   * There wherever `rowsInPlace` is.
   * @returns index of the first finite one that becomes infinite; those behind it are of no use then
   */
  roundInPlace?(bytes: Uint8Array): number | undefined;
  /** The tensor's elements; f16 as its bits, a quantised tensor as the words of its storage. @throws DeviceError `device-lost`, `device-failure`. */
  read(tensor: Tensor): Promise<HostArray>;
  /** Queues an operation. Shapes, dtypes and scalars are checked first. @throws ContractError; SessionError `disposed` */
  run<T extends Tensors, S extends Scalars>(
    operation: Operation<T, S>,
    tensors: Readonly<Record<keyof T, Tensor>>,
    scalars?: ScalarArguments<S>,
  ): void;
  /** Records what `task` runs instead of queueing it: shapes are checked and kernels chosen once and for all. */
  record(task: () => void): Recording;
  /** Queues everything that was recorded. @throws SessionError `disposed` where it, or a tensor in it, was */
  replay(recording: Recording): void;
  /** Compiles the kernels that `task` would run, all at once; queues nothing. @throws DeviceError `device-failure` */
  prepare(task: () => void): Promise<void>;
  /**
   * Measures, where kernels can be chosen among, which ones make `pass` fastest, and uses them from then on for what is
   * recorded anew; what was measured before is not measured again. Nothing else may use the backend meanwhile.
   * Returns all choices so far.
   */
  tune?(pass: () => void, options?: TuneOptions): Promise<KernelChoices>;
  /** The number of rows, `count` or a little more, that a batch is best padded to so that few shapes occur. */
  paddedRows(count: number): number;
  /** Resolves when all that was queued is done. */
  finish(): Promise<void>;
  /** Gives the device up as if it had been lost, where it can be: for tests of what happens then. */
  loseDevice?(): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A tensor whose storage can be looked at as another dtype too. */
export interface RawTensor extends Tensor {
  view(shape: readonly number[], dtype?: DType): RawTensor;
}

/** A backend that runs single kernels as they are, whatever would be chosen: for tests and benchmarks. */
export interface KernelBackend<Kernel> extends Backend {
  allocate(label: string, dtype: DType, shape: readonly number[]): RawTensor;
  /** Queues one kernel, on tensors that are each in one block. */
  runVariant(
    variant: Kernel,
    tensors: Readonly<Record<string, Tensor>>,
    scalars?: Readonly<Record<string, number>>,
  ): void;
  /** Milliseconds that the device itself counts for what `queue` queues; undefined where it has no clock. */
  time?(queue: () => void): Promise<number | undefined>;
}
