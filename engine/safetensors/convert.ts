/**
 * From the bytes of a safetensors file to the numbers the engine holds. Both are little-endian, as is every machine
 * that WebGPU and WebAssembly run on. The loops work on the bit patterns through integer views, which is several times
 * faster than arithmetic on the values.
 */
import { ContractError } from '../../kernels/errors.ts';
import { f16Infinity, f16ToF32, f32BitsToF16, f32Infinity } from '../../kernels/f16.ts';

/** The stored dtypes that the engine computes with. */
export type FloatDType = 'F32' | 'F16' | 'BF16';

export const floatDTypes: readonly FloatDType[] = ['F32', 'F16', 'BF16'];

/** What an f32's exponent counts more than an f16's, 127 - 15, at the exponent's place in an f32. */
const exponentShift = 0x3800_0000;

/**
 * Decodes a chunk of a tensor to f32; exact.
 *
 * @param bytes whole elements of `dtype`
 * @param target receives them; at least as long as there are elements
 * @returns the part of `target` that was written
 * @throws ContractError `shape-mismatch` for a broken element or a target too short
 */
export function decodeToF32(bytes: Uint8Array, dtype: FloatDType, target?: Float32Array): Float32Array {
  const source = elements(bytes, dtype);
  const count = source.length;
  const values = target ? target.subarray(0, count) : new Float32Array(count);
  checkRoom(values, count);
  const bits = new Uint32Array(values.buffer, values.byteOffset, count);
  if (dtype === 'F32') {
    bits.set(source);
  } else if (dtype === 'BF16') {
    // A bfloat16 is the upper half of an f32.
    for (let i = 0; i < count; i++) bits[i] = source[i]! << 16;
  } else {
    for (let i = 0; i < count; i++) {
      const half = source[i]!;
      const exponent = half & f16Infinity;
      if (exponent === 0) {
        values[i] = f16ToF32(half);
      } else {
        const shift = exponent === f16Infinity ? 2 * exponentShift : exponentShift;
        bits[i] = ((half & 0x8000) << 16) | (((half & 0x7fff) << 13) + shift);
      }
    }
  }
  return values;
}

/** A decoded chunk, and whether it fitted. */
export interface F16Chunk {
  /** f16 bit patterns. */
  readonly bits: Uint16Array;
  /** Index of the first finite element that became infinite, being 65520 or more in magnitude; undefined if none did. */
  readonly outOfRange: number | undefined;
}

/**
 * Decodes a chunk of a tensor to f16, to nearest, ties to even; f16 is copied bit by bit.
 *
 * Weights of a model kept in BF16 may lie beyond f16's range. The caller, who knows the tensor's name, refuses such a
 * chunk with `dtype-unsupported` and suggests f32.
 *
 * @param bytes whole elements of `dtype`
 * @param target receives them; at least as long as there are elements
 * @throws ContractError `shape-mismatch` for a broken element or a target too short
 */
export function decodeToF16(bytes: Uint8Array, dtype: FloatDType, target?: Uint16Array): F16Chunk {
  const source = elements(bytes, dtype);
  const count = source.length;
  const bits = target ? target.subarray(0, count) : new Uint16Array(count);
  checkRoom(bits, count);
  if (dtype === 'F16') {
    bits.set(source);
    return { bits, outOfRange: undefined };
  }
  const shift = dtype === 'BF16' ? 16 : 0;
  let outOfRange: number | undefined;
  for (let i = 0; i < count; i++) {
    const wide = source[i]! << shift;
    const half = f32BitsToF16(wide);
    bits[i] = half;
    if ((half & 0x7fff) === f16Infinity && (wide & 0x7fff_ffff) !== f32Infinity) outOfRange ??= i;
  }
  return { bits, outOfRange };
}

/** The bytes as unsigned integers of the element's size; copied only where they do not lie on an element boundary. */
function elements(bytes: Uint8Array, dtype: FloatDType): Uint32Array | Uint16Array {
  const size = dtype === 'F32' ? 4 : 2;
  if (bytes.length % size !== 0) {
    throw new ContractError('shape-mismatch', `${bytes.length} bytes are no whole number of ${dtype} elements.`);
  }
  const { buffer, byteOffset, length } = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return dtype === 'F32'
    ? new Uint32Array(buffer, byteOffset, length / size)
    : new Uint16Array(buffer, byteOffset, length / size);
}

function checkRoom(target: { readonly length: number }, count: number): void {
  if (target.length < count) {
    throw new ContractError(
      'shape-mismatch',
      `the target must hold ${count} elements, but has room for ${target.length}.`,
    );
  }
}
