import { describe, expect, test } from 'vitest';
import { assertPreference } from '../engine/preference.ts';
import { attention } from '../kernels/attention/index.ts';
import { chooseVariant } from '../kernels/choice.ts';
import { bytesMoved, type DType, resolve, resolveScalars } from '../kernels/contract.ts';
import { ContractError } from '../kernels/errors.ts';
import { decodeF16, f16ToF32, f32ToF16 } from '../kernels/f16.ts';
import { store } from '../kernels/matmul/epilogue.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { int8 } from '../kernels/matmul/int8.ts';
import { reference as multiply } from '../kernels/matmul/reference.ts';
import { portable, vec4 } from '../kernels/matmul/tiled.ts';
import { rmsNorm } from '../kernels/rms-norm/index.ts';
import { ropeTables } from '../kernels/rope-and-cache/index.ts';
import { prepare, verify } from '../kernels/verification.ts';
import { assembleShader, linearGrid } from '../kernels/webgpu.ts';

const tensor = (dtype: DType, ...shape: number[]) => ({ dtype, shape });
const x = tensor('f32', 5, 8);
const weight = tensor('f16', 3, 8);
const out = tensor('f32', 5, 4);
const dims = { rows: 5, inputs: 8, block: 3, outputs: 4 };
const kernels = { int8: int8(matmul, store), vec4: vec4(matmul, store), portable: portable(matmul, store) };

describe('resolve', () => {
  test('sizes the axes', () => {
    expect(resolve(matmul, { x, weight, out })).toEqual(dims);
  });

  test('merges trailing axes', () => {
    expect(resolve(matmul, { x: tensor('f32', 5, 2, 4), weight, out })).toEqual(dims);
  });

  test.each([
    ['both sizes of an axis', { x, weight: tensor('f16', 3, 9), out }, /'weight'.*\(3, 9\).*'inputs' is 9 here and 8/],
    ['a rank', { x: tensor('f32', 8), weight, out }, /'x'.*\(rows, inputs\).*\(8\): has too few axes/],
    ['both dtypes', { x: tensor('f16', 5, 8), weight, out }, /'x' must be f32, but is f16/],
  ])('names %s that do not agree', (_, tensors, message) => {
    expect(() => resolve(matmul, tensors)).toThrow(ContractError);
    expect(() => resolve(matmul, tensors)).toThrow(message);
  });

  test('names a fixed size that is not kept', () => {
    const heads = tensor('f32', 1, 1, 2);
    const tensors = { queries: heads, keys: heads, values: heads, out: heads, spans: tensor('u32', 1, 2) };
    expect(() => resolve(attention, { ...tensors, sequences: tensor('u32', 1, 4) })).toThrow(/axis 1 is 4, not 5/);
  });
});

describe('resolveScalars', () => {
  test('fills in defaults', () => {
    expect(resolveScalars(matmul, dims, {})).toEqual({ firstOutput: 0 });
  });

  test('names what is missing', () => {
    expect(() => resolveScalars(rmsNorm, { rows: 1, hidden: 4 }, {})).toThrow(/'epsilon' is missing/);
  });

  test('keeps the constraint', () => {
    expect(() => resolveScalars(matmul, dims, { firstOutput: 2 })).toThrow(/\[2, 5\).*the 4 columns/);
  });
});

test('bytes are counted in the dtypes at hand', () => {
  const bytes = (weight: DType) => bytesMoved(matmul, dims, { x: 'f32', weight, out: 'f32' }, { firstOutput: 0 });
  expect(bytes('f32') - bytes('f16')).toBe(3 * 8 * 2);
});

describe('assembleShader', () => {
  const dtypes = { x: 'f32', weight: 'f16', out: 'f32' } as const;
  const all = new Set(['shader-f16', 'subgroups']);

  test('declares parameters, bindings and constants from the contract', () => {
    const source = assembleShader(kernels.portable, dtypes, all);
    expect(source).toContain('enable f16;');
    expect(source).toMatch(/rows: u32,\s+inputs: u32,\s+block: u32,\s+outputs: u32,\s+firstOutput: u32,/);
    expect(source).toContain('@binding(2) var<storage, read> weight: array<f16>;');
    expect(source).toContain('@binding(3) var<storage, read_write> out: array<f32>;');
    expect(source).not.toContain('fn load_out');
    expect(source).toContain('const DEPTH: u32 = 16u;');
  });

  test('unpacks f16 where the device has none', () => {
    const scalar = assembleShader(kernels.portable, dtypes, new Set());
    expect(scalar).not.toContain('f16;');
    expect(scalar).toContain('weight: array<u32>');
    expect(assembleShader(kernels.vec4, dtypes, new Set())).toContain('weight: array<vec2<u32>>');
  });
});

test('quantised weights are bound as words, their parameters found by the shape', () => {
  const scalar = assembleShader(kernels.portable, { x: 'f32', weight: 'q4', out: 'f32' }, new Set());
  expect(scalar).toContain('weight: array<u32>');
  expect(scalar).toContain('weight[params.block * params.inputs / 8u + block]');
  expect(scalar).toContain('fn load_weight(i: u32) -> f32');
  const vector = assembleShader(kernels.vec4, { x: 'f32', weight: 'q8', out: 'f32' }, new Set());
  expect(vector).toContain('weight[params.block * params.inputs / 4u + block / 2u]');
  expect(vector).toContain('fn load_weight(i: u32) -> vec4<f32>');
});

describe('chooseVariant', () => {
  const variants = [kernels.vec4, kernels.portable];

  test('takes the first that serves', () => {
    expect(chooseVariant(variants, dims, {}).name).toBe('vec4');
    expect(chooseVariant(variants, { ...dims, inputs: 7 }, {}).name).toBe('portable');
  });

  test('takes an approximate one only where it is named and serves', () => {
    const all = [kernels.int8, ...variants];
    const many = { ...dims, rows: 17, inputs: 32 };
    const choose = (weight: DType, preferred?: string) =>
      chooseVariant(all, many, { x: 'f32', weight, out: 'f32' }, preferred).name;
    expect(choose('q8')).toBe('vec4');
    expect(choose('q8', 'int8')).toBe('int8');
    expect(choose('f16', 'int8')).toBe('vec4');
    expect(choose('q8', 'portable')).toBe('portable');
    expect(() => assertPreference({ matmul: 'int8' })).not.toThrow();
    expect(() => assertPreference({ matmul: 'int9' })).toThrow(
      /'matmul' has no variant 'int9'; there are integer dots, dots, int8, /,
    );
    expect(() => assertPreference({ toString: 'int8' })).toThrow(/it is no operation/);
  });

  test('says what nothing serves', () => {
    expect(() => chooseVariant([], dims, {})).toThrow(/No kernel serves .*"inputs":8/);
  });
});

test('a linear grid stays within the limit and covers everything', () => {
  expect(linearGrid(0, 64)[0]).toBe(0);
  for (const items of [1, 64, 65, 65_535 * 64, 65_535 * 64 + 1, 2 ** 31]) {
    const [across, down] = linearGrid(items, 64);
    expect(across).toBeLessThanOrEqual(65_535);
    expect(across * down * 64).toBeGreaterThanOrEqual(items);
  }
});

describe('f16', () => {
  test('every half survives the way through f32', () => {
    const all = Uint16Array.from({ length: 2 ** 16 }, (_, bits) => bits);
    const decoded = new Float32Array(all.length);
    decodeF16(all, decoded);
    const changed = all.filter((bits) => {
      const notANumber = (bits & 0x7fff) > 0x7c00;
      return notANumber ? !Number.isNaN(decoded[bits]) : f32ToF16(decoded[bits]!) !== bits;
    });
    expect([...changed]).toEqual([]);
  });

  test.each([
    [0x0001, 2 ** -24],
    [0x03ff, 1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65_504],
    [0xfc00, Number.NEGATIVE_INFINITY],
  ])('%i stands for %f', (bits, value) => {
    expect(f16ToF32(bits)).toBe(value);
  });

  test.each([
    ['ties go to even, down', 1 + 2 ** -11, 0x3c00],
    ['ties go to even, up', 1 + 3 * 2 ** -11, 0x3c02],
    ['more than half goes up', 1 + 2 ** -11 + 2 ** -20, 0x3c01],
    ['a subnormal tie goes to even', 2.5 * 2 ** -24, 0x0002],
    ['the largest subnormal rounds up to normal', 1023.5 * 2 ** -24, 0x0400],
    ['underflow keeps the sign', -(2 ** -26), 0x8000],
    ['just below the overflow', 65_519.99, 0x7bff],
    ['overflow', 65_520, 0x7c00],
    ['NaN', Number.NaN, 0x7e00],
  ])('%s', (_, value, bits) => {
    expect(f32ToF16(value)).toBe(bits);
  });
});

test('rope tables hold the angles of Hugging Face: position / theta^(2 i / headDim)', () => {
  const { cos, sin } = ropeTables(3, 4, 10_000);
  expect([...cos]).toEqual([1, 1, Math.cos(1), Math.cos(0.01), Math.cos(2), Math.cos(0.02)].map(Math.fround));
  expect([...sin]).toEqual([0, 0, Math.sin(1), Math.sin(0.01), Math.sin(2), Math.sin(0.02)].map(Math.fround));
});

describe('scaled rope tables', () => {
  const [headDim, theta] = [128, 500_000];
  const positions = [0, 1, 4095, 8191, 8192, 65_535, 131_071];
  const rows = (tables: { cos: Float32Array; sin: Float32Array }, position: number) =>
    [tables.cos, tables.sin].map((table) => table.subarray((position * headDim) / 2, ((position + 1) * headDim) / 2));

  test.each([
    ['Llama-3.1-8B', 8],
    ['Llama-3.2-1B', 32],
  ])('of %s hold what its three bands of wavelengths come to', (_, factor) => {
    const scaling = {
      type: 'llama3',
      factor,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositionEmbeddings: 8192,
    } as const;
    const tables = ropeTables(131_072, headDim, theta, scaling);
    const bands = new Set<string>();
    for (const position of positions) {
      const [cos, sin] = rows(tables, position);
      for (let i = 0; i < headDim / 2; i++) {
        const wavelength = 2 * Math.PI * theta ** ((2 * i) / headDim);
        let angle = (2 * Math.PI * position) / wavelength;
        if (wavelength > 8192) bands.add('long');
        else bands.add(wavelength < 2048 ? 'short' : 'between');
        if (wavelength > 8192) angle /= factor;
        else if (wavelength >= 2048) {
          const smooth = (8192 / wavelength - 1) / 3;
          angle *= (1 - smooth) / factor + smooth;
        }
        expect(cos![i]).toBeCloseTo(Math.cos(angle), 6);
        expect(sin![i]).toBeCloseTo(Math.sin(angle), 6);
      }
    }
    expect([...bands].sort()).toEqual(['between', 'long', 'short']);
  });

  test('that are linear are those of positions closer together', () => {
    const scaled = ropeTables(64, headDim, theta, { type: 'linear', factor: 4 });
    const plain = ropeTables(16, headDim, theta);
    for (let position = 0; position < 16; position++) {
      expect(rows(scaled, 4 * position)).toEqual(rows(plain, position));
    }
  });
});

describe('verification', () => {
  const trial = prepare(matmul, multiply, { dims, scalars: {} }, { x: 'f32', weight: 'f32', out: 'f32' }, 7);
  const right = Float32Array.from(trial.before.out!);
  right.set(trial.expected.out!);
  const changed = (index: number, value: number) => right.with(index, value);

  test('accepts the answer, which leaves the fourth column alone', () => {
    expect(trial.expected.out!.filter(Number.isNaN)).toHaveLength(5);
    expect(verify(matmul, trial, 'out', right)).toBeUndefined();
  });

  test('is the same for the same seed only', () => {
    const again = (seed: number) => prepare(matmul, multiply, { dims, scalars: {} }, trial.dtypes, seed).before.x;
    expect(again(7)).toEqual(trial.before.x);
    expect(again(8)).not.toEqual(trial.before.x);
  });

  test.each([
    ['a wrong number', changed(5, 1000), /^out\[1, 1\] is 1000 and should be .*; 1 of 20/],
    ['a number that was left out', changed(5, Number.NaN), /^out\[1, 1\] is NaN/],
    ['a write where none is due', changed(7, 0), /^out\[1, 3\] is 0 and should be NaN/],
    ['a write beyond the end', changed(22, 0), /^out was written 3 elements beyond its end/],
  ])('tells of %s', (_, after, message) => {
    expect(verify(matmul, trial, 'out', after)).toMatch(message);
  });
});
