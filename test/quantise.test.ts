import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planBlocks } from '../engine/webgpu/tensor.ts';
import { product, type QuantisedDType, sectionsOf, storedArray, storedBytes } from '../kernels/contract.ts';
import { embedding } from '../kernels/embedding/index.ts';
import { ContractError } from '../kernels/errors.ts';
import { f16ToF32 } from '../kernels/f16.ts';
import { decodeRows, quantise, quantisedSections } from '../kernels/quantise.ts';
import { seededRandom } from '../kernels/random.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { normals } from './support/model-files.ts';

type Matrix = readonly [rows: number, width: number];

function store(values: Float32Array, dtype: QuantisedDType, shape: Matrix): Uint32Array {
  const words = storedArray(dtype, storedBytes(dtype, shape) / 4) as Uint32Array;
  expect(quantise(values, dtype, quantisedSections(dtype, shape, words))).toBeUndefined();
  return words;
}

function decode(words: Uint32Array, dtype: QuantisedDType, shape: Matrix): Float32Array {
  const values = new Float32Array(product(shape));
  decodeRows(words, dtype, shape, 0, values);
  return values;
}

const throughStorage = (values: Float32Array, dtype: QuantisedDType) =>
  decode(store(values, dtype, [values.length / 32, 32]), dtype, [values.length / 32, 32]);

/** A block of numbers of one magnitude, some of them zero. */
const blocks = fc
  .record({
    exponent: fc.integer({ min: -30, max: 12 }),
    offset: fc.constantFrom(0, 0, 1, -8),
    values: fc.array(fc.oneof(fc.constant(0), fc.float({ min: -1, max: 1, noNaN: true })), {
      minLength: 32,
      maxLength: 32,
    }),
  })
  .map(({ exponent, offset, values }) => Float32Array.from(values, (value) => (value + offset) * 2 ** exponent));

describe('storage', () => {
  test('takes 8.5 and 5 bits a weight', () => {
    expect(storedBytes('q8', [64, 4096])).toBe((64 * 4096 * 8.5) / 8);
    expect(storedBytes('q4', [64, 4096])).toBe((64 * 4096 * 5) / 8);
    // The last scale alone fills half a word.
    expect(storedBytes('q8', [1, 32])).toBe(36);
  });

  test('is quants first, then parameters', () => {
    expect(sectionsOf('q8', [6, 64])).toEqual([
      { offset: 0, rowBytes: 64 },
      { offset: 384, rowBytes: 4 },
    ]);
    expect(sectionsOf('q4', [6, 64])).toEqual([
      { offset: 0, rowBytes: 32 },
      { offset: 192, rowBytes: 8 },
    ]);
    expect(sectionsOf('f16', [6, 5, 3])).toEqual([{ offset: 0, rowBytes: 30 }]);
  });

  test.each([[[4, 48]], [[64]], [[2, 2, 32]]])('refuses the shape %j', (shape) => {
    expect(() => storedBytes('q8', shape)).toThrow(ContractError);
    expect(() => storedBytes('q4', shape)).toThrow(/rows are a multiple of 32/);
  });

  test.each(['q8', 'q4', 'f16'] as const)('in %s is cut into blocks that fit and hold every row once', (dtype) => {
    for (const largest of [1000, 4096, 10_000]) {
      const cut = planBlocks(dtype, [101, 96], largest);
      let next = 0;
      for (const { firstRow, rows, size } of cut) {
        expect(firstRow).toBe(next);
        next += rows;
        expect(next === 101 || rows % 2 === 0).toBe(true);
        expect(size).toBeGreaterThanOrEqual(storedBytes(dtype, [rows, 96]));
        expect(storedBytes(dtype, [rows, 96])).toBeLessThanOrEqual(largest);
      }
      expect(next).toBe(101);
    }
  });
});

describe('q8', () => {
  test('is off by half a step at most, a step being a 127th of the largest magnitude', () => {
    fc.assert(
      fc.property(blocks, (values) => {
        const decoded = throughStorage(values, 'q8');
        const largest = Math.max(...values.map(Math.abs));
        // The scale is rounded to f16, below 2^-14 to a multiple of 2^-24.
        const step = (largest / 127) * (1 + 2 ** -11) + 2 ** -24;
        values.forEach((value, i) => {
          expect(Math.abs(decoded[i]! - value)).toBeLessThanOrEqual(step / 2);
        });
      }),
    );
  });

  test('keeps what it can hold: quantising twice is quantising once', () => {
    const once = throughStorage(normals(4096, seededRandom(3)), 'q8');
    expect(throughStorage(once, 'q8')).toEqual(once);
  });

  test('errs by 0.54% of the deviation on normally distributed weights, without bias', () => {
    const values = normals(2 ** 16, seededRandom(4));
    const decoded = throughStorage(values, 'q8');
    const errors = values.map((value, i) => decoded[i]! - value);
    expect(Math.sqrt(errors.reduce((sum, e) => sum + e * e, 0) / errors.length)).toBeLessThan(0.0055);
    expect(Math.abs(errors.reduce((sum, e) => sum + e, 0) / errors.length)).toBeLessThan(1e-4);
  });
});

describe('q4', () => {
  test('errs no more than the plain range in 15 steps may', () => {
    fc.assert(
      fc.property(blocks, (values) => {
        const decoded = throughStorage(values, 'q4');
        const squares = values.reduce((sum, value, i) => sum + (decoded[i]! - value) ** 2, 0);
        const range = Math.max(...values) - Math.min(...values);
        const largest = Math.max(...values.map(Math.abs));
        const rounding = (largest + range) * 2 ** -11 + 16 * 2 ** -24;
        expect(Math.sqrt(squares / 32)).toBeLessThanOrEqual(range / 30 + rounding);
      }),
    );
  });

  test('errs by 7.4% of the deviation on normally distributed weights, less than the plain range does', () => {
    const values = normals(2 ** 16, seededRandom(4));
    const decoded = throughStorage(values, 'q4');
    const squares = values.reduce((sum, value, i) => sum + (decoded[i]! - value) ** 2, 0);
    // 7.8% with the plain range.
    expect(Math.sqrt(squares / values.length)).toBeLessThan(0.074);
  });

  test('keeps sixteen levels exactly', () => {
    const levels = Float32Array.from({ length: 32 }, (_, i) => 0.25 * (i % 16) - 1.5);
    expect(throughStorage(levels, 'q4')).toEqual(levels);
  });
});

describe.each(['q8', 'q4'] as const)('%s', (dtype) => {
  test('keeps zeros', () => {
    expect(throughStorage(new Float32Array(64), dtype)).toEqual(new Float32Array(64));
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 3e38])('tells of %f', (value) => {
    const values = normals(128, seededRandom(1));
    values[70] = value;
    const words = new Uint32Array(storedBytes(dtype, [4, 32]) / 4);
    expect(quantise(values, dtype, quantisedSections(dtype, [4, 32], words))).toBe(64);
  });

  test('decodes rows from the middle', () => {
    const shape = [7, 96] as const;
    const words = store(normals(7 * 96, seededRandom(2)), dtype, shape);
    const rows = new Float64Array(2 * 96);
    decodeRows(words, dtype, shape, 3, rows);
    expect(Float32Array.from(rows)).toEqual(decode(words, dtype, shape).subarray(3 * 96, 5 * 96));
  });
});

describe.each(testDevices)('on %s', (device) => {
  test.each(['q8', 'q4'] as const)(
    '%s is decoded to the last bit, from the smallest scales to the largest',
    async (dtype) => {
      const shape = [44, 96] as const;
      const values = normals(product(shape), seededRandom(5));
      // A row each from 2^-30 to 2^13; scales below 2^-14 are subnormal in f16.
      values.forEach((value, i) => {
        values[i] = Math.max(-3, Math.min(3, value)) * 2 ** (Math.floor(i / 96) - 30);
      });
      const words = store(values, dtype, shape);
      expect(f16ToF32(quantisedSections(dtype, shape, words).parameters[0]!)).toBeLessThan(2 ** -14);
      await using backend = await openTestDevice(device);
      const table = backend.allocate('table', dtype, shape);
      const ids = backend.allocate('ids', 'u32', [shape[0]]);
      const out = backend.allocate('out', 'f32', shape);
      backend.write(table, words);
      backend.write(
        ids,
        Uint32Array.from({ length: shape[0] }, (_, i) => i),
      );
      backend.run(embedding, { table, ids, out });
      expect(await backend.read(out)).toEqual(decode(words, dtype, shape));
      expect(await backend.read(table)).toEqual(words);
    },
  );
});
