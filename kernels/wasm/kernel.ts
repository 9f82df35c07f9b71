import {
  type Dims,
  type DTypes,
  type Operation,
  parameters,
  type Scalars,
  type ScalarValues,
  type Tensors,
} from '../contract.ts';
import type { MemoryType } from './encoding.ts';
import type { WasmFeature } from './features.ts';
import { type FunctionBuilder, ModuleBuilder, type Parameters, type Variable } from './function.ts';
import { Address, F32, I32 } from './scalars.ts';

/** Sizes that code is made for: what `specialise` chose to know beforehand. */
export type Constants = Readonly<Record<string, number>>;

/** Working memory in bytes: `shared` by all threads from one stage to the next, and `own` for each thread. */
export interface Scratch {
  readonly shared: number;
  readonly own: number;
}

/** A part of a kernel that ends before the next begins. Threads share its units of work out, in whatever order. */
export interface Stage<T extends Tensors, S extends Scalars> {
  /** How many pieces the work divides into; no two may write the same place. */
  units(dims: Dims<T>, scalars: ScalarValues<S>): number;
  /** Writes the functions of a module; the body of its last, which does some units, is given to `main`. */
  emit(module: ModuleBuilder, main: (body: (kernel: KernelFrame<T, S>) => void) => void, target: Target<T>): void;
}

/** What code is made for. */
export interface Target<T extends Tensors> {
  readonly constants: Constants;
  readonly dtypes: DTypes<T>;
  readonly features: ReadonlySet<WasmFeature>;
}

/** One way to compute an operation in WebAssembly SIMD. */
export interface WasmVariant<T extends Tensors = Tensors, S extends Scalars = Scalars> {
  readonly kind: 'wasm';
  readonly operation: Operation<T, S>;
  readonly name: string;
  readonly needs: readonly WasmFeature[];
  /** Whether this variant can serve these sizes and dtypes; the last variant of an operation serves all. */
  fits(dims: Dims<T>, dtypes: DTypes<T>): boolean;
  /** Sizes to make code for; operations that agree in them and in their dtypes share it. */
  specialise(dims: Dims<T>): Constants;
  scratch(dims: Dims<T>, dtypes: DTypes<T>): Scratch;
  readonly stages: readonly Stage<T, S>[];
  /** The operation's tolerance, larger where this variant rounds its inputs to fewer bits. */
  readonly tolerance: number;
  /** Whether it computes with fewer bits than its tensors are stored in; then it is chosen only where it is named. */
  readonly approximate: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: a variant of any operation; its parameters make it invariant
export type AnyWasmVariant = WasmVariant<any, any>;

/** A variant of `operation`, with the parts that most leave alone filled in. */
export function wasmVariant<T extends Tensors, S extends Scalars>(
  operation: Operation<T, S>,
  variant: Pick<WasmVariant<T, S>, 'name' | 'stages'> &
    Partial<Pick<WasmVariant<T, S>, 'needs' | 'fits' | 'specialise' | 'scratch' | 'tolerance' | 'approximate'>>,
): WasmVariant<T, S> {
  return {
    kind: 'wasm',
    operation,
    needs: [],
    fits: () => true,
    specialise: () => ({}),
    scratch: () => ({ shared: 0, own: 0 }),
    tolerance: operation.tolerance,
    approximate: false,
    ...variant,
  };
}

/** A kernel of one stage, without functions or scratch memory of its own: what most element-wise operations are. */
export const simpleKernel = <T extends Tensors, S extends Scalars>(
  operation: Operation<T, S>,
  units: Stage<T, S>['units'],
  unit: (kernel: KernelFrame<T, S>, index: I32, target: Target<T>) => void,
  more: Partial<Pick<WasmVariant<T, S>, 'fits' | 'specialise'>> = {},
): WasmVariant<T, S> =>
  wasmVariant(operation, {
    name: 'simd',
    ...more,
    stages: [
      { units, emit: (_, main, target) => main((kernel) => kernel.eachUnit((index) => unit(kernel, index, target))) },
    ],
  });

/** Bytes of a tensor's address in the parameter block, whatever the memory, and of a size or a scalar. */
const addressBytes = 8;
const word = 4;

/** What a kernel's last function takes: its parameter block, the units to do, and working memory, its own and shared. */
const kernelParameters = [Address, I32, I32, Address, Address] as const;

/**
 * The function that a thread calls for some units of work: `run(parameters, begin, end, scratch, sharedScratch)`.
 * `parameters` is the address of a block: addresses of the tensors in the contract's order, then dimensions and scalars.
 */
export class KernelFrame<T extends Tensors, S extends Scalars> {
  readonly f: FunctionBuilder;
  /** Memory of the thread's own. */
  readonly scratch: Address;
  /** Memory that the stages share. */
  readonly sharedScratch: Address;
  readonly #block: Address;
  readonly #begin: I32;
  readonly #end: I32;
  readonly #tensors: readonly string[];
  readonly #sizes: readonly string[];

  constructor(operation: Operation<T, S>, f: FunctionBuilder, given: Parameters<typeof kernelParameters>) {
    this.f = f;
    [this.#block, this.#begin, this.#end, this.scratch, this.sharedScratch] = given;
    this.#tensors = Object.keys(operation.tensors);
    this.#sizes = parameters(operation).map(({ name }) => name);
  }

  /** A tensor's address. */
  tensor(name: keyof T & string): Variable<Address> {
    return this.f.let(this.#block.load(addressBytes * this.#tensors.indexOf(name)));
  }

  /** A dimension, or a scalar of u32. */
  size(name: (keyof Dims<T> | keyof S) & string): Variable<I32> {
    return this.f.let(I32.load(this.#block, this.#offset(name)));
  }

  number(name: keyof S & string): Variable<F32> {
    return this.f.let(F32.load(this.#block, this.#offset(name)));
  }

  eachUnit(body: (unit: Variable<I32>) => void): void {
    this.f.for(this.#begin, this.#end, 1, body);
  }

  #offset(size: string): number {
    return addressBytes * this.#tensors.length + word * this.#sizes.indexOf(size);
  }
}

/** The parameter block of a call. */
export function parameterBlock(
  operation: Operation,
  values: Readonly<Record<string, number>>,
  addresses: Readonly<Record<string, number>>,
): Uint32Array {
  const sizes = parameters(operation);
  const tensors = Object.keys(operation.tensors);
  const block = new DataView(new ArrayBuffer(addressBytes * tensors.length + word * sizes.length));
  for (const [i, name] of tensors.entries()) block.setBigUint64(addressBytes * i, BigInt(addresses[name]!), true);
  sizes.forEach(({ name, type }, i) => {
    const at = addressBytes * tensors.length + word * i;
    if (type === 'u32') block.setUint32(at, values[name]!, true);
    else block.setFloat32(at, values[name]!, true);
  });
  return new Uint32Array(block.buffer);
}

/** The binary module of one stage of a variant. */
export function assembleModule(
  { operation }: AnyWasmVariant,
  stage: Stage<Tensors, Scalars>,
  target: Target<Tensors>,
  memory: MemoryType,
): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder(memory);
  const main = (body: (kernel: KernelFrame<Tensors, Scalars>) => void) =>
    module.define(kernelParameters, (f, given) => body(new KernelFrame(operation, f, given)));
  stage.emit(module, main, target);
  return module.encode();
}
