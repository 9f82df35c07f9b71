import {
  type AnyOperation,
  type DType,
  type HostArray,
  isQuantised,
  product,
  quantBlock,
  resolveScalars,
  type StoredArray,
  shapeOf,
  storedBytes,
  storedElementBytes,
  type TensorContract,
} from './contract.ts';
import type { AnyReference } from './cpu.ts';
import { encodeF16 } from './f16.ts';
import { decodeRows, quantise, quantisedSections } from './quantise.ts';
import { normals, seededRandom } from './random.ts';

/** Elements, of a quantised tensor words, kept after every tensor; whoever runs a variant gives it these too and hands them back to `verify`. */
export const guardElements = 64;

/** An operation with concrete inputs and the answer: what a variant is given, and what it must make of it. */
export interface Trial {
  readonly label: string;
  readonly dims: Readonly<Record<string, number>>;
  readonly scalars: Readonly<Record<string, number>>;
  readonly dtypes: Readonly<Record<string, DType>>;
  /**
   * Each tensor as stored before the run, `guardElements` of poison after it: a read beyond an input shows as NaN, a
   * write beyond an output as anything else. Outputs are poison from the start.
   */
  readonly before: Readonly<Record<string, StoredArray>>;
  /** What the tensors that are written hold after the run; NaN where nothing is to be written. */
  readonly expected: Readonly<Record<string, Float64Array>>;
}

/** An operation's cases, each with every dtype its tensors may have; the reference is run as they are taken. */
export function* trials(operation: AnyOperation, reference: AnyReference, seed = 1): Generator<Trial> {
  for (const example of operation.cases) {
    for (const dtypes of dtypeCombinations(operation)) {
      const dims = wholeBlocks(operation, example.dims, dtypes);
      yield prepare(operation, reference, { ...example, dims }, dtypes, seed++);
    }
  }
}

/** `dims` with the rows of quantised tensors lengthened to whole blocks: what a case becomes in such a dtype. */
function wholeBlocks(
  operation: AnyOperation,
  dims: Trial['dims'],
  dtypes: Readonly<Record<string, DType>>,
): Trial['dims'] {
  const rows = contracts(operation).filter(([name]) => isQuantised(dtypes[name]!));
  const lengthened = rows.map(([, { axes }]) => {
    const width = String(axes.at(-1));
    return [width, Math.ceil(dims[width]! / quantBlock) * quantBlock];
  });
  return { ...dims, ...Object.fromEntries(lengthened) };
}

/** Every choice of a dtype for each tensor. */
export function dtypeCombinations(operation: AnyOperation): Record<string, DType>[] {
  let combinations: Record<string, DType>[] = [{}];
  for (const [name, { dtypes }] of contracts(operation)) {
    combinations = combinations.flatMap((others) => dtypes.map((dtype) => ({ ...others, [name]: dtype })));
  }
  return combinations;
}

/** Draws inputs, rounds them to their dtypes, and only then asks the reference. */
export function prepare(
  operation: AnyOperation,
  reference: AnyReference,
  { dims, scalars: given = {} }: AnyOperation['cases'][number],
  dtypes: Readonly<Record<string, DType>>,
  seed: number,
): Trial {
  const random = seededRandom(seed);
  const scalars: Record<string, number> = resolveScalars(operation, dims, given);
  const special: Partial<Record<string, HostArray>> = operation.inputs?.(dims, random, scalars) ?? {};
  const before: Record<string, StoredArray> = {};
  const exact: Record<string, Float64Array | Uint32Array> = {};
  for (const [name, contract] of contracts(operation)) {
    const shape = shapeOf(contract, dims);
    const values = contract.access === 'write' ? [] : (special[name] ?? normals(random, product(shape)));
    before[name] = stored(values, dtypes[name]!, shape);
    exact[name] = widened(before[name], dtypes[name]!, shape);
  }
  reference(exact, dims, scalars);
  const written = contracts(operation).filter(([, { access }]) => access !== 'read');
  return {
    label: JSON.stringify({ ...dims, ...scalars, ...dtypes }).replaceAll('"', ''),
    dims,
    scalars,
    dtypes,
    before,
    expected: Object.fromEntries(written.map(([name]) => [name, exact[name] as Float64Array])),
  };
}

/**
 * Compares a tensor after the run, its guard included, with what it should hold. One stored in f16 may besides be off
 * by a unit in its last place: WGSL leaves the direction of rounding open.
 * @param tolerance as a share of the largest expected magnitude
 * @returns a sentence on the worst element, or undefined where all are within it
 */
export function verify(
  operation: AnyOperation,
  trial: Trial,
  name: string,
  written: HostArray,
  tolerance: number = operation.tolerance,
): string | undefined {
  const expected = trial.expected[name]!;
  const halves = trial.dtypes[name] === 'f16';
  const after = halves ? widened(written as Uint16Array, 'f16', [written.length]) : written;
  const lastPlace = (e: number) => (halves && Number.isFinite(e) ? Math.abs(e) * 2 ** -10 + 2 ** -24 : 0);
  const magnitude = expected.reduce((most, e) => (Number.isFinite(e) ? Math.max(most, Math.abs(e)) : most), 0);
  const allowed = tolerance * magnitude;
  const errors = expected.map((e, i) => Math.max(0, distance(e, after[i]!) - lastPlace(e)));
  const wrong = errors.filter((error) => error > allowed).length;
  if (wrong > 0) {
    const worst = errors.indexOf(errors.reduce((a, b) => Math.max(a, b)));
    const place = coordinates(worst, shapeOf(operation.tensors[name], trial.dims)).join(', ');
    return (
      `${name}[${place}] is ${after[worst]} and should be ${expected[worst]}, off by ${errors[worst]} where ` +
      `${allowed} is allowed; ${wrong} of ${expected.length} elements are wrong. ${trial.label}`
    );
  }
  const touched = after.subarray(expected.length).findIndex((value) => !Number.isNaN(value));
  return touched < 0 ? undefined : `${name} was written ${touched + 1} elements beyond its end. ${trial.label}`;
}

/** NaN stands for what was never written, and is right only where it is expected. */
function distance(expected: number, actual: number): number {
  if (Object.is(expected, actual) || expected === actual) return 0;
  const error = Math.abs(expected - actual);
  return Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
}

function coordinates(index: number, shape: readonly number[]): number[] {
  const places: number[] = [];
  for (const size of shape.toReversed()) {
    places.unshift(index % size);
    index = Math.floor(index / size);
  }
  return places;
}

const contracts = (operation: AnyOperation) => Object.entries(operation.tensors as Record<string, TensorContract>);

/** `values` as a dtype stores them, and behind them what no kernel computes by accident: NaN in every float dtype. */
function stored(values: ArrayLike<number>, dtype: DType, shape: readonly number[]): StoredArray {
  const length = storedBytes(dtype, shape) / storedElementBytes(dtype) + guardElements;
  if (dtype === 'f32' || dtype === 'f16') {
    const floats = new Float32Array(length).fill(Number.NaN);
    floats.set(values);
    return dtype === 'f32' ? floats : encodeF16(floats);
  }
  const words = new Uint32Array(length).fill(0xffff_ffff);
  if (isQuantised(dtype)) quantise(new Float32Array(values), dtype, quantisedSections(dtype, shape, words));
  else words.set(values);
  return words;
}

/** The stored numbers, exactly, as wide as the reference computes. */
function widened(array: StoredArray, dtype: DType, shape: readonly number[]): Float64Array | Uint32Array {
  const length = product(shape);
  if (dtype === 'u32') return (array as Uint32Array).slice(0, length);
  const floats = new Float64Array(length);
  const width = shape.at(-1) ?? 1;
  decodeRows(array, dtype, [length / width, width], 0, floats);
  return floats;
}
