import type { Dims, DType, Operation, Scalars, ScalarValues, StoredArray, Tensors } from './contract.ts';

/** Floating-point elements in host memory: f32 storage for the `cpu` backend, f64 for the oracle of the tests. */
export type Floats = Float32Array | Float64Array;

/** What a kernel on the processor is given of a tensor; f16 arrives as its bits in the variants that read it. */
export type CpuArrays<T extends Tensors> = {
  readonly [Name in keyof T]: T[Name]['dtypes'][number] extends 'u32' ? Uint32Array : Floats;
};

/**
 * An operation in plain loops, readable beside its formula. Numbers of JavaScript are float64, so sums accumulate in
 * float64; what is stored is as wide as the arrays given. It is the oracle of every other variant.
 */
export type Reference<T extends Tensors, S extends Scalars> = (
  tensors: CpuArrays<T>,
  dims: Dims<T>,
  scalars: ScalarValues<S>,
) => void;

// biome-ignore lint/suspicious/noExplicitAny: of any operation; its parameters make it invariant
export type AnyReference = Reference<any, any>;

/** A faster way to compute an operation on the processor, with the weights in the dtypes it names. */
export interface CpuVariant<T extends Tensors = Tensors, S extends Scalars = Scalars> {
  readonly kind: 'cpu';
  readonly operation: Operation<T, S>;
  readonly name: string;
  run(
    tensors: Readonly<Record<keyof T, StoredArray>>,
    dims: Dims<T>,
    scalars: ScalarValues<S>,
    dtypes: Readonly<Record<keyof T, DType>>,
  ): void;
}

// biome-ignore lint/suspicious/noExplicitAny: of any operation; its parameters make it invariant
export type AnyCpuVariant = CpuVariant<any, any>;
