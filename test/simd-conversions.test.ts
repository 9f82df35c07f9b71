/** Conversions in WebAssembly SIMD against those of plain loops, to the bit. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { startWorker } from '../engine/node/start-worker.ts';
import { decodeToF16, decodeToF32, type FloatDType } from '../engine/safetensors/convert.ts';
import { roomOf, SimdConverter } from '../engine/safetensors/simd.ts';
import { type OpenWasmOptions, openWasm } from '../engine/wasm/open.ts';
import { seededRandom } from '../kernels/random.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';

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
  const outOfRange = converter.toF16(own, dtype);
  return { bits: new Uint16Array(own.buffer, own.byteOffset, bytes.length / (dtype === 'F32' ? 4 : 2)), outOfRange };
}

function expectF16(bytes: Uint8Array, dtype: 'BF16' | 'F32'): void {
  const expected = decodeToF16(bytes, dtype);
  const { bits, outOfRange } = toF16(bytes, dtype);
  expect(outOfRange).toBe(expected.outOfRange);
  // What lies behind a number beyond the range need not be converted.
  const differs = bits
    .subarray(0, outOfRange)
    .findIndex((half, i) => half !== expected.bits[i] && !(isNaN16(half) && isNaN16(expected.bits[i]!)));
  expect(differs).toBe(-1);
}

/** Whether a bfloat16 is finite and no f16 is. */
const isBeyond = (bits: number) => decodeToF16(Uint8Array.of(bits & 0xff, bits >> 8), 'BF16').outOfRange !== undefined;

/** Every pattern of sixteen bits, in an order that mixes all kinds of numbers. */
const everyPattern = Uint16Array.from({ length: 65_536 }, (_, i) => (i * 40_503) & 0xffff);

describe('conversions', () => {
  it.each(['in order', 'mixed'])('of every bfloat16 that f16 has to f16, %s', (order) => {
    const patterns = everyPattern.filter((bits) => !isBeyond(bits));
    expectF16(new Uint8Array((order === 'mixed' ? patterns : patterns.sort()).buffer), 'BF16');
  });

  it('tell where the first bfloat16 is that f16 has not, whichever it is', () => {
    const beyond = everyPattern.filter(isBeyond);
    expect(beyond).toHaveLength(2 * 112 * 128);
    const { converter, own } = placed(new Uint8Array(2 * 150));
    const numbers = new Uint16Array(own.buffer, own.byteOffset, 150);
    const found = beyond.map((bits, i) => {
      // One, an infinity, and two that are beyond.
      numbers.fill(0x3f80);
      numbers[0] = 0x7f80;
      numbers[1 + (i % 149)] = bits;
      numbers[149] = bits;
      return converter.toF16(own, 'BF16')!;
    });
    expect(found.every((at, i) => at === 1 + (i % 149))).toBe(true);
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
    const bits = Uint32Array.from({ length: 200_000 }, () => random() * 2 ** 32).filter((bits) => {
      const magnitude = bits & 0x7fff_ffff;
      return magnitude < 0x477f_f000 || magnitude >= 0x7f80_0000; // 65,520, infinity
    });
    expectF16(new Uint8Array(bits.buffer), 'F32');
  });

  it('of any count, which tell of numbers beyond the range', () => {
    const number = fc.oneof(
      fc.double({ noNaN: true, min: -1, max: 1 }),
      fc.constantFrom(0, -0, 1e-7, 65_504, 65_520, 1e30),
    );
    fc.assert(
      fc.property(fc.array(number, { minLength: 1, maxLength: 100 }), fc.boolean(), (numbers, isNarrow) => {
        const floats = Float32Array.from(numbers);
        const halves = Uint16Array.from(new Uint32Array(floats.buffer), (bits) => bits >>> 16);
        expectF16(new Uint8Array(isNarrow ? halves.buffer : floats.buffer), isNarrow ? 'BF16' : 'F32');
      }),
      { numRuns: 200 },
    );
  });
});

const memories: [string, OpenWasmOptions][] = [
  ['memory of its own', {}],
  ['memory that threads share', { startThread: startWorker, threads: 2 }],
];
if (wasmFeatures().has('memory64')) memories.push(['memory of 64 bits', { memoryNeeded: 2 ** 33 }]);

describe.each(memories)('bfloat16 in %s', (_, options) => {
  it('is rounded where it lies, and what lies beside it stays', async () => {
    await using backend = openWasm(options);
    const patterns = everyPattern.filter((bits) => !isBeyond(bits)).slice(0, 36_843);
    const tensor = backend.allocate('numbers', 'f16', [5, 12_281]);
    const [all] = backend.rowsInPlace(tensor, 0, 5)!;
    all!.fill(0xab);
    const [rows] = backend.rowsInPlace(tensor, 1, 3)!;
    rows!.set(new Uint8Array(patterns.buffer));
    expect(backend.roundInPlace(rows!)).toBeUndefined();
    const expected = Uint16Array.from({ length: 5 * 12_281 }, () => 0xabab);
    expected.set(decodeToF16(new Uint8Array(patterns.buffer), 'BF16').bits, 12_281);
    expect(await backend.read(tensor)).toEqual(expected);
  });
});
