import { type DType, product, storedBytes } from './dtypes.ts';
import { ContractError } from './errors.ts';

export * from './dtypes.ts';

/** `read`: an input. `write`: an output that was never read. `update`: both; the operation works in place. */
export type Access = 'read' | 'write' | 'update';

/** One tensor of an operation: how it is used, what it may be stored as, and its axes, slowest first. */
export interface TensorContract<Axis extends string | number = string | number, D extends DType = DType> {
  readonly access: Access;
  readonly dtypes: readonly D[];
  /** A name is a dimension of the operation, the same size wherever it appears; a number is that size. */
  readonly axes: readonly Axis[];
}

export interface ScalarContract {
  readonly type: 'u32' | 'f32';
  readonly default: number | undefined;
}

export type Tensors = Readonly<Record<string, TensorContract>>;
export type Scalars = Readonly<Record<string, ScalarContract>>;

/** The sizes of an operation's named axes. */
export type Dims<T extends Tensors> = Readonly<Record<Extract<T[keyof T]['axes'][number], string>, number>>;
export type DTypes<T extends Tensors> = Readonly<Record<keyof T, DType>>;
export type ScalarValues<S extends Scalars> = Readonly<Record<keyof S, number>>;
/** What a caller passes: scalars that have a default may be left out. */
export type ScalarArguments<S extends Scalars> = Readonly<Partial<Record<keyof S, number>>>;

/** Elements of a tensor in host memory; f16 is held as its bits, a quantised tensor as the words of its storage. */
export type HostArray = Float64Array | Float32Array | Uint32Array | Uint16Array;

/** A concrete instance of an operation: sizes and scalars. */
export interface Case<T extends Tensors, S extends Scalars> {
  readonly dims: Dims<T>;
  readonly scalars?: ScalarArguments<S>;
}

/** What is said of an operation once, and used by the engine, the tests and the benchmark alike. */
export interface OperationContract<T extends Tensors, S extends Scalars> {
  readonly name: string;
  /** The operation in one line of mathematics. */
  readonly formula: string;
  readonly tensors: T;
  readonly scalars: S;
  /** Floating-point operations; a multiply-add counts as two, an exponential or square root as one. */
  flops(dims: Dims<T>, scalars: ScalarValues<S>): number;
  /** Bytes that have to move at least; by default each tensor once. */
  bytes?(dims: Dims<T>, dtypes: DTypes<T>, scalars: ScalarValues<S>): number;
  /** What `dims` and `scalars` must satisfy beyond agreeing axes: a sentence on what is wrong, or undefined. */
  constraint?(dims: Dims<T>, scalars: ScalarValues<S>): string | undefined;
  /**
   * The tensor that may be larger than one binding and is then given in blocks of rows: the operation is run once
   * per block, with `offset` set to the block's first row.
   */
  readonly splits?: { readonly tensor: keyof T & string; readonly offset: keyof S & string };
  /**
   * Axes that can be cut together into independent parts: of n parts the i-th takes the i-th n-th of each of them, and
   * the operation on a part is that part of the operation on the whole. So a large case can be verified on a sample.
   */
  readonly slices?: readonly Extract<T[keyof T]['axes'][number], string>[];
  /** Sizes on which every variant is verified, ragged and degenerate ones among them. */
  readonly cases: readonly Case<T, S>[];
  /** Sizes that `npm run bench` times. */
  readonly benchmarks: readonly (Case<T, S> & { readonly label: string })[];
  /**
   * Inputs that are not just random numbers (indices, spans); the others are drawn from a normal distribution.
   * `random` is uniform in [0, 1).
   */
  inputs?(dims: Dims<T>, random: () => number, scalars: ScalarValues<S>): Partial<Record<keyof T, HostArray>>;
  /** Largest error allowed in f32 arithmetic, as a share of the largest expected magnitude. */
  readonly tolerance: number;
}

export interface Operation<T extends Tensors = Tensors, S extends Scalars = Scalars> extends OperationContract<T, S> {
  readonly kind: 'operation';
}

// biome-ignore lint/suspicious/noExplicitAny: an operation of any tensors; `Operation` alone is invariant in them
export type AnyOperation = Operation<any, any>;

export function operation<
  const T extends Readonly<Record<string, TensorContract>>,
  const S extends Readonly<Record<string, ScalarContract>>,
>(contract: OperationContract<T, S>): Operation<T, S> {
  return { kind: 'operation', ...contract };
}

const tensor =
  (access: Access) =>
  <const D extends DType, const Axes extends readonly (string | number)[]>(
    dtypes: D | readonly D[],
    ...axes: Axes
  ): TensorContract<Axes[number], D> => ({
    access,
    dtypes: typeof dtypes === 'string' ? [dtypes] : dtypes,
    axes,
  });

export const read = tensor('read');
export const write = tensor('write');
export const update = tensor('update');

export const u32 = (byDefault?: number): ScalarContract => ({ type: 'u32', default: byDefault });
export const f32 = (byDefault?: number): ScalarContract => ({ type: 'f32', default: byDefault });

/** The shape of one of an operation's tensors under `dims`. */
export function shapeOf(contract: TensorContract, dims: Readonly<Record<string, number>>): number[] {
  return contract.axes.map((axis) => (typeof axis === 'number' ? axis : dims[axis]!));
}

/** Bytes that the operation has to move at least. */
export function bytesMoved<T extends Tensors, S extends Scalars>(
  op: Operation<T, S>,
  dims: Dims<T>,
  dtypes: DTypes<T>,
  scalars: ScalarValues<S>,
): number {
  if (op.bytes) return op.bytes(dims, dtypes, scalars);
  let bytes = 0;
  for (const [name, contract] of Object.entries(op.tensors)) {
    const once = storedBytes(dtypes[name]!, shapeOf(contract, dims));
    bytes += contract.access === 'update' ? 2 * once : once;
  }
  return bytes;
}

/** Names and types of what a kernel is told, in order: every dimension, then every scalar; each takes four bytes. */
export function parameters(operation: Operation): { name: string; type: 'u32' | 'f32' }[] {
  const axes = Object.values(operation.tensors).flatMap((t) => t.axes.filter((axis) => typeof axis === 'string'));
  return [
    ...[...new Set(axes)].map((name) => ({ name, type: 'u32' as const })),
    ...Object.entries(operation.scalars).map(([name, { type }]) => ({ name, type })),
  ];
}

/** What a contract needs to know of a tensor. */
export interface TensorLike {
  readonly dtype: DType;
  /** Sizes, slowest axis first. */
  readonly shape: readonly number[];
}

/**
 * Matches tensors with the operation's axes and returns the size of each.
 *
 * A tensor with more axes than its contract has its trailing axes merged: `(tokens, heads, headDim)` serves where
 * `(rows, inputs)` is asked for, with `inputs = heads * headDim`.
 */
export function resolve<T extends Tensors, S extends Scalars>(
  op: Operation<T, S>,
  tensors: Readonly<Record<keyof T, TensorLike>>,
): Dims<T> {
  const dims: Record<string, number> = {};
  for (const [name, contract] of Object.entries(op.tensors)) {
    const { dtype, shape } = tensors[name as keyof T];
    if (!contract.dtypes.includes(dtype)) {
      throw new ContractError(
        'dtype-mismatch',
        `${op.name}: '${name}' must be ${contract.dtypes.join(' or ')}, but is ${dtype}.`,
      );
    }
    const rank = contract.axes.length;
    const merged = shape.length > rank ? [...shape.slice(0, rank - 1), product(shape.slice(rank - 1))] : shape;
    if (merged.length !== rank) throw mismatch(op, name, contract, shape, 'has too few axes');
    contract.axes.forEach((axis, i) => {
      const size = merged[i]!;
      if (typeof axis === 'number') {
        if (size !== axis) throw mismatch(op, name, contract, shape, `axis ${i} is ${size}, not ${axis}`);
        return;
      }
      const known = dims[axis];
      if (known !== undefined && known !== size) {
        throw mismatch(op, name, contract, shape, `'${axis}' is ${size} here and ${known} in another tensor`);
      }
      dims[axis] = size;
    });
  }
  return dims as Dims<T>;
}

function mismatch(op: AnyOperation, name: string, contract: TensorContract, shape: readonly number[], why: string) {
  return new ContractError(
    'shape-mismatch',
    `${op.name}: '${name}' must have shape (${contract.axes.join(', ')}), but came as (${shape.join(', ')}): ${why}.`,
  );
}

/** Fills in defaults; checks that nothing is missing and that the operation's own constraint holds. */
export function resolveScalars<T extends Tensors, S extends Scalars>(
  op: Operation<T, S>,
  dims: Dims<T>,
  given: ScalarArguments<S>,
): ScalarValues<S> {
  const scalars: Record<string, number> = {};
  for (const [name, contract] of Object.entries(op.scalars)) {
    const value = given[name] ?? contract.default;
    if (value === undefined) throw new ContractError('shape-mismatch', `${op.name}: the scalar '${name}' is missing.`);
    scalars[name] = value;
  }
  const wrong = op.constraint?.(dims, scalars as ScalarValues<S>);
  if (wrong) throw new ContractError('shape-mismatch', `${op.name}: ${wrong}.`);
  return scalars as ScalarValues<S>;
}
