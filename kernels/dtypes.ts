import { ContractError } from './errors.ts';

/** The ways to hold a weight: what `--dtype` chooses from. */
export const weightDTypes = ['f32', 'f16', 'q8', 'q4'] as const;
export type WeightDType = (typeof weightDTypes)[number];

/** Held as small whole numbers, quants, with parameters that each block of `quantBlock` neighbours in a row shares. */
export type QuantisedDType = 'q8' | 'q4';

/** How a tensor's elements are stored. Arithmetic accumulates in f32 whatever the storage. */
export type DType = WeightDType | 'u32';

/** Bytes of an element of a dtype that stores each by itself. */
export const bytesPerElement: Readonly<Record<Exclude<DType, QuantisedDType>, number>> = { f32: 4, f16: 2, u32: 4 };

/** Inputs that share parameters; a row of a quantised matrix is a multiple of it. */
export const quantBlock = 32;

/** Bits of a quant, and how many f16 parameters a block has. */
export const quantisedFormats: Readonly<
  Record<QuantisedDType, { readonly bits: number; readonly parameters: number }>
> = {
  // w = scale * quant, with quants of two's complement, in [-127, 127] where this package makes them: 8.5 bits a weight.
  q8: { bits: 8, parameters: 1 },
  // w = scale * quant + minimum, with quants in [0, 15]: 5 bits a weight.
  q4: { bits: 4, parameters: 2 },
};

export const isQuantised = (dtype: DType): dtype is QuantisedDType => dtype in quantisedFormats;

export const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** How many times `size` it takes to hold `items`: tiles, panels, workgroups. */
export const divideUp = (items: number, size: number): number => Math.ceil(items / size);

/** Whether a tensor of this shape can be stored so; only matrices of whole blocks can be quantised. */
export const storable = (dtype: DType, shape: readonly number[]): boolean =>
  !isQuantised(dtype) || (shape.length === 2 && shape[1]! % quantBlock === 0);

/** A part of a tensor's storage in which its rows lie one after another. */
export interface Section {
  /** Bytes before it. */
  readonly offset: number;
  readonly rowBytes: number;
}

/**
 * Where the rows of a tensor lie in its storage. A quantised matrix is one piece of memory: first the quants of all
 * rows, then the parameters of all rows, so that what a kernel reads most is aligned and dense. The place of the
 * parameters follows from the shape alone.
 * @throws ContractError `shape-mismatch` for a shape that the dtype cannot store
 */
export function sectionsOf(dtype: DType, shape: readonly number[]): readonly Section[] {
  const [rows = 1, ...rest] = shape;
  const width = product(rest);
  if (!isQuantised(dtype)) return [{ offset: 0, rowBytes: width * bytesPerElement[dtype] }];
  if (!storable(dtype, shape)) {
    throw new ContractError(
      'shape-mismatch',
      `${dtype} stores matrices whose rows are a multiple of ${quantBlock}, but the shape is (${shape.join(', ')}).`,
    );
  }
  const { bits, parameters } = quantisedFormats[dtype];
  const rowBytes = (width * bits) / 8;
  return [
    { offset: 0, rowBytes },
    { offset: rows * rowBytes, rowBytes: (width / quantBlock) * parameters * bytesPerElement.f16 },
  ];
}

/** Bytes that a tensor takes; a quantised one is a whole number of u32. */
export function storedBytes(dtype: DType, shape: readonly number[]): number {
  const { offset, rowBytes } = sectionsOf(dtype, shape).at(-1)!;
  const bytes = offset + (shape[0] ?? 1) * rowBytes;
  return isQuantised(dtype) ? Math.ceil(bytes / 4) * 4 : bytes;
}

/** Host arrays as tensors are stored: f16 as its bits, quantised ones as the words that kernels read. */
export type StoredArray = Float32Array | Uint32Array | Uint16Array;

/** A zero-filled host array for `length` elements of it. */
export function storedArray(dtype: DType, length: number): StoredArray {
  if (dtype === 'f32') return new Float32Array(length);
  return dtype === 'f16' ? new Uint16Array(length) : new Uint32Array(length);
}

/** Bytes of an element of the host array that holds such a tensor. */
export const storedElementBytes = (dtype: DType): number => bytesPerElement[isQuantised(dtype) ? 'u32' : dtype];
