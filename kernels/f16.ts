/**
 * Half-precision numbers (IEEE 754 binary16) held as their bits. Node.js 20 has no Float16Array; this can go where
 * every supported platform has one.
 */

/** Infinity as f32 bits. */
export const f32Infinity = 0x7f80_0000;
/** Infinity as f16 bits. */
export const f16Infinity = 0x7c00;
/** The smallest normal f16, 2^-14, as f32 bits. */
const smallestNormalF16 = 0x3880_0000;
/** What an f32's exponent counts more than an f16's, 127 - 15, at the exponent's place in an f32. */
const exponentShift = 0x3800_0000;
/** The f32 beyond which even rounding cannot bring a number back into f16's range: 2^16. */
const beyondF16 = 0x4780_0000;

// Only ever written and read within one call.
const scratchF32 = new Float32Array(1);
const scratchBits = new Uint32Array(scratchF32.buffer);

/**
 * The f16 bit pattern nearest to an f32, ties to even. 65520 and beyond become infinity, NaN a quiet NaN.
 * A number that is no f32 is rounded to one first.
 */
export function f32ToF16(value: number): number {
  scratchF32[0] = value;
  return f32BitsToF16(scratchBits[0]!);
}

/** The same for an f32 given by its bits. */
export function f32BitsToF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fff_ffff;
  if (magnitude >= beyondF16) return sign | (magnitude > f32Infinity ? 0x7e00 : f16Infinity);
  if (magnitude >= smallestNormalF16) {
    // Adds just under half of an f16's last place, or exactly half where its last bit is odd: ties go to even.
    const rounded = magnitude - exponentShift + 0xfff + ((magnitude >>> 13) & 1);
    return sign | (rounded >>> 13);
  }
  // The spacing of subnormal f16s is 2^-24; shift the significand down to it and round the same way.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const significand = 0x80_0000 | (magnitude & 0x7f_ffff);
  const half = 1 << (shift - 1);
  return sign | ((significand + half - 1 + ((significand >>> shift) & 1)) >>> shift);
}

/** Every half by its bits. */
const decoded = /* @__PURE__ */ Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (0x400 + fraction) * 2 ** (exponent - 25);
});

/** The value of an f16 bit pattern (IEEE 754 binary16); exact. */
export const f16ToF32 = (bits: number): number => decoded[bits]!;

/** Decodes as many halves as `target` holds, from `start` on. */
export function decodeF16(source: Uint16Array, target: Float32Array | Float64Array, start = 0): void {
  for (let i = 0; i < target.length; i++) target[i] = decoded[source[start + i]!]!;
}

/**
 * The f16 bit patterns of numbers, each as `f32ToF16` has it. `Uint16Array.from` would list them as numbers of JavaScript
 * first, for which a large tensor leaves no room.
 */
export function encodeF16(values: ArrayLike<number>): Uint16Array<ArrayBuffer> {
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) bits[i] = f32ToF16(values[i]!);
  return bits;
}
