/**
 * Quantised rows on the host: from f32 to blocks of 32 small whole numbers with f16 parameters, and back. What the
 * formats are is said in dtypes.ts; the same blocks under other names are Q8_0 and Q4_1 of llama.cpp's GGUF.
 */
import {
  type DType,
  isQuantised,
  product,
  type QuantisedDType,
  quantBlock,
  quantisedFormats,
  type StoredArray,
  sectionsOf,
} from './dtypes.ts';
import { decodeF16, f16Infinity, f16ToF32, f32ToF16 } from './f16.ts';

/** The largest quants. */
const largestQ8 = 127;
const largestQ4 = 2 ** quantisedFormats.q4.bits - 1;

/** The two sections of some rows. */
export interface QuantisedRows {
  /** q8: one a byte, two's complement. q4: two a byte, the first in the low half. */
  readonly quants: Uint8Array;
  /** f16 bits, block by block: the scale, and for q4 the minimum behind it. */
  readonly parameters: Uint16Array;
}

/** The sections of a whole matrix `(rows, inputs)` inside its storage. */
export function quantisedSections(dtype: QuantisedDType, shape: readonly number[], words: Uint32Array): QuantisedRows {
  const { buffer, byteOffset } = words;
  const { offset } = sectionsOf(dtype, shape)[1]!;
  const blocks = product(shape) / quantBlock;
  return {
    quants: new Uint8Array(buffer, byteOffset, offset),
    parameters: new Uint16Array(buffer, byteOffset + offset, blocks * quantisedFormats[dtype].parameters),
  };
}

/**
 * Quantises whole blocks. Quants are rounded with the parameters as stored, so that rounding those adds no bias.
 *
 * @param values a multiple of `quantBlock`
 * @param into receives them
 * @returns the first index of a block that the format cannot hold, since it has NaN, an infinity or parameters beyond
 *   f16; undefined where there is none
 */
export function quantise(values: Float32Array, dtype: QuantisedDType, into: QuantisedRows): number | undefined {
  const encode = dtype === 'q8' ? encodeQ8 : encodeQ4;
  for (let start = 0; start < values.length; start += quantBlock) {
    if (!encode(values, start, into)) return start;
  }
  return undefined;
}

/** A block of q8: the largest magnitude becomes 127. */
function encodeQ8(values: Float32Array, start: number, { quants, parameters }: QuantisedRows): boolean {
  let largest = 0;
  let sum = 0;
  for (let i = start; i < start + quantBlock; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
    sum += magnitude; // not finite from the first such number on
  }
  let bits = f32ToF16(largest / largestQ8);
  // Where halves are sparse, the nearest may be so small that the largest number would be cut off.
  if (largest > f16ToF32(bits) * (largestQ8 + 0.5)) bits++;
  if (!Number.isFinite(sum) || bits >= f16Infinity) return false;
  parameters[start / quantBlock] = bits;
  const inverse = bits === 0 ? 0 : 1 / f16ToF32(bits);
  for (let i = start; i < start + quantBlock; i++) {
    // Raised above zero, where cutting off rounds down: to the nearest, once a half is added.
    const raised = (values[i]! * inverse + (largestQ8 + 1.5)) | 0;
    quants[i] = (raised > 2 * largestQ8 + 1 ? 2 * largestQ8 + 1 : raised) - (largestQ8 + 1);
  }
  return true;
}

/**
 * How many steps of q4 the range of a block is divided into before fitting; the better of the two is kept. The first
 * reaches from end to end, the second cuts half a step off either.
 */
const q4Steps = [largestQ4, largestQ4 + 1];

/**
 * A block of q4: divide the range into steps, round to them, then fit scale and minimum to the quants by least
 * squares. On normally distributed weights that takes 5.5% off the root mean square error of the plain range; fifteen
 * divisions instead of two would take 8% off and load that much slower.
 */
function encodeQ4(values: Float32Array, start: number, { quants, parameters }: QuantisedRows): boolean {
  const end = start + quantBlock;
  let low = values[start]!;
  let high = low;
  let sum = 0;
  for (let i = start; i < end; i++) {
    const value = values[i]!;
    if (value < low) low = value;
    if (value > high) high = value;
    sum += value; // not finite from the first such number on
  }
  const range = high - low;
  let scale = 0;
  let minimum = f32ToF16(low);
  let least = Number.POSITIVE_INFINITY;
  if (range > 0) {
    const sumAboveLow = sum - quantBlock * low;
    for (const steps of q4Steps) {
      const inverse = steps / range;
      // Half a step, to round to the nearest; less where the ends are cut off, so that the middle stays the middle.
      const shift = 0.5 - (steps - largestQ4) / 2;
      let quantSum = 0;
      let squareSum = 0;
      let crossSum = 0;
      for (let i = start; i < end; i++) {
        const above = values[i]! - low;
        const rounded = (above * inverse + shift) | 0;
        const quant = rounded > largestQ4 ? largestQ4 : rounded;
        quantSum += quant;
        squareSum += quant * quant;
        crossSum += quant * above;
      }
      // Not zero, since both ends of the range are there.
      const determinant = quantBlock * squareSum - quantSum * quantSum;
      const fitted = (quantBlock * crossSum - quantSum * sumAboveLow) / determinant;
      // What the squared errors come to, but for the part that is the same whatever the steps.
      const offset = (sumAboveLow - fitted * quantSum) / quantBlock;
      const error = -fitted * crossSum - offset * sumAboveLow;
      if (error < least) {
        least = error;
        scale = f32ToF16(fitted);
        minimum = f32ToF16(low + offset);
      }
    }
  }
  if (!Number.isFinite(sum) || scale >= f16Infinity || (minimum & 0x7fff) >= f16Infinity) return false;
  parameters[start / 16] = scale;
  parameters[start / 16 + 1] = minimum;
  const inverse = scale === 0 ? 0 : 1 / f16ToF32(scale);
  const shift = 0.5 - f16ToF32(minimum) * inverse;
  for (let i = start; i < end; i += 2) {
    quants[i / 2] = nearestQ4(values[i]! * inverse + shift) | (nearestQ4(values[i + 1]! * inverse + shift) << 4);
  }
  return true;
}

/** The quant of a number that has a half added to it. */
function nearestQ4(raised: number): number {
  const rounded = raised | 0;
  return rounded > largestQ4 ? largestQ4 : rounded < 0 ? 0 : rounded;
}

/**
 * Decodes neighbouring rows of a stored matrix `shape`, from `firstRow` on, as many as `target` holds: the numbers that
 * kernels compute with, exactly.
 */
export function decodeRows(
  stored: StoredArray,
  dtype: DType,
  shape: readonly [rows: number, width: number],
  firstRow: number,
  target: Float32Array | Float64Array,
): void {
  const start = firstRow * shape[1];
  if (!isQuantised(dtype)) {
    if (dtype === 'f16') decodeF16(stored as Uint16Array, target, start);
    else target.set(stored.subarray(start, start + target.length));
    return;
  }
  const { quants, parameters } = quantisedSections(dtype, shape, stored as Uint32Array);
  const decode = dtype === 'q8' ? decodeQ8 : decodeQ4;
  for (let i = 0; i < target.length; i += quantBlock) decode(quants, parameters, start + i, target, i);
}

function decodeQ8(
  quants: Uint8Array,
  parameters: Uint16Array,
  from: number,
  target: Float32Array | Float64Array,
  to: number,
): void {
  const scale = f16ToF32(parameters[from / quantBlock]!);
  for (let i = 0; i < quantBlock; i++) target[to + i] = scale * ((quants[from + i]! << 24) >> 24);
}

function decodeQ4(
  quants: Uint8Array,
  parameters: Uint16Array,
  from: number,
  target: Float32Array | Float64Array,
  to: number,
): void {
  const scale = f16ToF32(parameters[from / 16]!);
  const minimum = f16ToF32(parameters[from / 16 + 1]!);
  for (let i = 0; i < quantBlock; i += 2) {
    const pair = quants[(from + i) / 2]!;
    // The product is exact in f32 and the sum rounded once, as in a kernel.
    target[to + i] = Math.fround(scale * (pair & 15) + minimum);
    target[to + i + 1] = Math.fround(scale * (pair >> 4) + minimum);
  }
}
