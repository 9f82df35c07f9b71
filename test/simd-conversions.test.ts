/** Conversions in WebAssembly SIMD against those of plain loops, to the bit. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeToF16, decodeToF32, type FloatDType } from '../engine/safetensors/convert.ts';
import { roomOf, SimdConverter } from '../engine/safetensors/simd.ts';
import { seededRandom } from '../kernels/random.ts';

const isNaN16 = (bits: number) => (bits & 0x7fff) > 0x7c00;

/** Bytes in a converter's memory. */
function placed(bytes: Uint8Array) {
  const converter = new SimdConverter(roomOf(bytes.length) + roomOf(2 * bytes.length));
  const own = converter.allocate(bytes.length);
  own.set(bytes);
  return { converter, own, target: converter.allocate(2 * bytes.length) };
}

function toF16(bytes: Uint8Array, dtype: 'BF16' | 'F32') {
  const { converter, own } = placed(bytes);
  const overflown = converter.toF16(own, dtype);
  return { bits: new Uint16Array(own.buffer, own.byteOffset, bytes.length / (dtype === 'F32' ? 4 : 2)), overflown };
}

function expectF16(bytes: Uint8Array, dtype: 'BF16' | 'F32'): void {
  const expected = decodeToF16(bytes, dtype);
  const { bits, overflown } = toF16(bytes, dtype);
  expect(overflown).toBe(expected.outOfRange !== undefined);
  const differs = bits.findIndex(
    (half, i) => half !== expected.bits[i] && !(isNaN16(half) && isNaN16(expected.bits[i]!)),
  );
  expect(differs).toBe(-1);
}

/** Every pattern of sixteen bits, in an order that mixes all kinds of numbers. */
const everyPattern = Uint16Array.from({ length: 65_536 }, (_, i) => (i * 40_503) & 0xffff);

describe('conversions', () => {
  it.each(['in order', 'mixed'])('of every bfloat16 to f16, %s', (order) => {
    const patterns = order === 'mixed' ? everyPattern : everyPattern.slice().sort();
    expectF16(new Uint8Array(patterns.buffer), 'BF16');
  });

  it.each<[FloatDType]>([['BF16'], ['F16']])('of every %s to f32', (dtype) => {
    const bytes = new Uint8Array(everyPattern.buffer);
    const { converter, own, target } = placed(bytes);
    converter.toF32(own, dtype as 'BF16' | 'F16', target);
    const expected = decodeToF32(bytes, dtype);
    const values = new Float32Array(target.buffer, target.byteOffset, expected.length);
    expect(values.every((value, i) => Object.is(value, expected[i]))).toBe(true);
  });

  it('of f32 of all sizes to f16', () => {
    const random = seededRandom(7);
    const bits = Uint32Array.from({ length: 200_000 }, () => random() * 2 ** 32);
    expectF16(new Uint8Array(bits.buffer), 'F32');
  });

  it('of any count, which tell of numbers beyond the range', () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, min: -1, max: 1 }),
      fc.constantFrom(0, -0, 1e-7, 65_504, 65_520, 1e30),
    );
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 40 }), fc.boolean(), (numbers, isNarrow) => {
        const floats = Float32Array.from(numbers);
        const halves = Uint16Array.from(new Uint32Array(floats.buffer), (bits) => bits >>> 16);
        expectF16(new Uint8Array(isNarrow ? halves.buffer : floats.buffer), isNarrow ? 'BF16' : 'F32');
      }),
      { numRuns: 200 },
    );
  });
});
