import {
  type Dims,
  type DType,
  type DTypes,
  type Operation,
  parameters,
  type Scalars,
  type ScalarValues,
  type Tensors,
} from '../contract.ts';
import { ContractError } from '../errors.ts';
import type { WasmFeature } from './features.ts';
import { type FunctionBuilder, ModuleBuilder, type Variable } from './function.ts';
import { F32, I32 } from './values.ts';

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
  scratch(dims: Dims<T>): Scratch;
  readonly stages: readonly Stage<T, S>[];
  /** The operation's tolerance, larger where this variant rounds its inputs to fewer bits. */
  readonly tolerance: number;
}

// biome-ignore lint/suspicious/noExplicitAny: a variant of any operation; its parameters make it invariant
export type AnyWasmVariant = WasmVariant<any, any>;

/** A variant of `operation`, with the parts that most leave alone filled in. */
export function wasmVariant<T extends Tensors, S extends Scalars>(
  operation: Operation<T, S>,
  variant: Pick<WasmVariant<T, S>, 'name' | 'stages'> &
    Partial<Pick<WasmVariant<T, S>, 'needs' | 'fits' | 'specialise' | 'scratch' | 'tolerance'>>,
): WasmVariant<T, S> {
  return {
    kind: 'wasm',
    operation,
    needs: [],
    fits: () => true,
    specialise: () => ({}),
    scratch: () => ({ shared: 0, own: 0 }),
    tolerance: operation.tolerance,
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

/**
 * The first variant, in the order given, that the engine has the features for and that serves these sizes.
 * @throws ContractError `no-variant`; cannot happen where the list ends in one that serves all.
 */
export function chooseWasmVariant(
  variants: readonly AnyWasmVariant[],
  dims: Readonly<Record<string, number>>,
  dtypes: Readonly<Record<string, DType>>,
  features: ReadonlySet<string>,
): AnyWasmVariant {
  const chosen = variants.find((v) => v.needs.every((need) => features.has(need)) && v.fits(dims, dtypes));
  if (chosen) return chosen;
  throw new ContractError('no-variant', `No kernel serves ${JSON.stringify(dims)} with ${JSON.stringify(dtypes)}.`);
}

/** Bytes of a word of the parameter block. */
const word = 4;
/** Where the address of the shared scratch memory stands. */
export const sharedScratchAddress = 16;

/**
 * The function that a thread calls for some units of work: `run(parameters, begin, end, scratch)`. `parameters` is the
 * address of a block of words: the tensors in the contract's order, then dimensions and scalars.
 */
export class KernelFrame<T extends Tensors, S extends Scalars> {
  readonly f: FunctionBuilder;
  readonly scratch: I32;
  readonly #block: I32;
  readonly #begin: I32;
  readonly #end: I32;
  readonly #names: readonly string[];

  constructor(operation: Operation<T, S>, f: FunctionBuilder, given: readonly I32[]) {
    this.f = f;
    [this.#block, this.#begin, this.#end, this.scratch] = given as readonly [I32, I32, I32, I32];
    this.#names = blockLayout(operation);
  }

  /** The address of memory that the stages share. */
  sharedScratch(): Variable<I32> {
    return this.f.let(I32.load(I32.const(sharedScratchAddress)));
  }

  /** A tensor's address. */
  tensor(name: keyof T & string): Variable<I32> {
    return this.f.let(I32.load(this.#block, this.#offset(name)));
  }

  /** A dimension, or a scalar of u32. */
  size(name: (keyof Dims<T> | keyof S) & string): Variable<I32> {
    return this.f.let(I32.load(this.#block, this.#offset(`.${name}`)));
  }

  number(name: keyof S & string): Variable<F32> {
    return this.f.let(F32.load(this.#block, this.#offset(`.${name}`)));
  }

  eachUnit(body: (unit: Variable<I32>) => void): void {
    this.f.for(this.#begin, this.#end, 1, body);
  }

  #offset(name: string): number {
    return word * this.#names.indexOf(name);
  }
}

/** What each word of a parameter block is: a tensor by its name, a size or scalar by its name behind a dot. */
function blockLayout(operation: Operation): string[] {
  const sizes = parameters(operation).map(({ name }) => `.${name}`);
  return [...Object.keys(operation.tensors), ...sizes];
}

/** The parameter block of a call. */
export function parameterBlock(
  operation: Operation,
  values: Readonly<Record<string, number>>,
  addresses: Readonly<Record<string, number>>,
): Uint32Array {
  const sizes = parameters(operation);
  const tensors = Object.keys(operation.tensors).map((name) => addresses[name]!);
  const block = new DataView(new ArrayBuffer(word * (tensors.length + sizes.length)));
  for (const [i, address] of tensors.entries()) block.setUint32(word * i, address, true);
  sizes.forEach(({ name, type }, i) => {
    const at = word * (tensors.length + i);
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
  sharedMemory: boolean,
): Uint8Array<ArrayBuffer> {
  const module = new ModuleBuilder();
  stage.emit(module, (body) => module.define(4, (f, given) => body(new KernelFrame(operation, f, given))), target);
  return module.encode(sharedMemory);
}
