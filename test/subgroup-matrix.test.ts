import { describe, expect, it } from 'vitest';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { kernels } from '../engine/webgpu/variants.ts';
import { chooseVariant } from '../kernels/choice.ts';
import { f32ToF16 } from '../kernels/f16.ts';
import { store } from '../kernels/matmul/epilogue.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { subgroupMatrix as family } from '../kernels/matmul/subgroup-matrix.ts';
import { assembleShader, availableVariants, type DeviceTraits } from '../kernels/webgpu.ts';
import { testDevices } from './support/devices.ts';

const subgroupMatrix = family(matmul, store);

const product = (M: number, N: number, K: number, componentType = 'f16', resultComponentType = 'f32') => ({
  componentType,
  resultComponentType,
  M,
  N,
  K,
});

/** What Dawn tells of a recent NVIDIA GPU. */
const traits: DeviceTraits = {
  features: new Set(['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix']),
  subgroupMatrixConfigs: [product(16, 16, 16, 'f16', 'f16'), product(16, 16, 16), product(16, 16, 32, 'i8', 'i32')],
  minSubgroupSize: 32,
  maxSubgroupSize: 32,
  maxInvocationsPerWorkgroup: 1024,
  maxWorkgroupStorage: 48 * 1024,
};

const dims = { rows: 64, inputs: 4096, block: 4096, outputs: 4096 };
const f16 = { x: 'f32', weight: 'f16', out: 'f32' } as const;

const chosen = (changes: Partial<typeof dims>, dtypes: Parameters<typeof chooseVariant>[2] = f16) => {
  const variants = availableVariants(kernels.matmul!, traits);
  return chooseVariant(variants, { ...dims, ...changes }, dtypes).name;
};

describe('subgroup matrices', () => {
  it('are made for the shapes that accumulate f16 in f32', () => {
    const members = subgroupMatrix.instantiate(traits);
    expect(members.map(({ name }) => name)).toEqual([
      'subgroup-matrix-16x16x16-64x128-by-8',
      'subgroup-matrix-16x16x16-64x128-by-4',
      'subgroup-matrix-16x16x16-128x128-by-4',
      'subgroup-matrix-16x16x16-32x128-by-4',
    ]);
    expect(members.map(({ workgroupSize }) => workgroupSize[0])).toEqual([256, 128, 128, 128]);
    const source = assembleShader(members[0]!, f16, traits.features);
    expect(source).toContain('enable chromium_experimental_subgroup_matrix;');
    expect(source).not.toMatch(/subgroup(Add|Broadcast|Shuffle)/);
  });

  it('serve shapes that are not square', () => {
    const members = subgroupMatrix.instantiate({ ...traits, subgroupMatrixConfigs: [product(8, 16, 16)] });
    expect(members.map(({ name }) => name)).toContain('subgroup-matrix-8x16x16-32x128-by-8');
  });

  it('are left out where the device has no room for them', () => {
    expect(subgroupMatrix.instantiate({ ...traits, maxWorkgroupStorage: 4096 })).toEqual([]);
    expect(subgroupMatrix.instantiate({ ...traits, maxInvocationsPerWorkgroup: 64 })).toEqual([]);
    expect(subgroupMatrix.instantiate({ ...traits, subgroupMatrixConfigs: [] })).toEqual([]);
  });

  it('are chosen for many rows of f16 weights, and others for the rest', () => {
    expect(chosen({})).toBe('subgroup-matrix-16x16x16-64x128-by-8');
    expect(chosen({ rows: 17, block: 17 })).toMatch('subgroup-matrix');
    expect(chosen({}, { ...f16, weight: 'f32' })).toBe('subgroups');
    expect(chosen({ rows: 16 })).not.toMatch('subgroup-matrix');
    expect(chosen({ inputs: 4096 + 16 })).not.toMatch('subgroup-matrix');
    expect(chosen({ block: 15 })).not.toMatch('subgroup-matrix');
    expect(chosen({ inputs: 67 })).toBe('portable');
  });

  it.runIf(testDevices.includes('webgpu'))('run the embedded model where this adapter offers them', async (test) => {
    await using device = await openWebGpu();
    if (device.traits.subgroupMatrixConfigs.length === 0) test.skip('no subgroup matrices');
    for (const inputs of [192, 512]) {
      const { name } = device.choose(matmul, { rows: 294, inputs, block: 192, outputs: 192 }, f16, {});
      expect(name).toMatch('subgroup-matrix');
    }
  });

  it.runIf(testDevices.includes('webgpu'))('take activations beyond the range of f16 as the largest', async (test) => {
    await using device = await openWebGpu();
    const [member] = subgroupMatrix.instantiate(device.traits);
    if (!member) test.skip('no subgroup matrices');
    const x = device.allocate('x', 'f32', [32, 64]);
    const weight = device.allocate('weight', 'f16', [64, 64]);
    const out = device.allocate('out', 'f32', [32, 64]);
    device.write(x, Float32Array.of(1e6));
    device.write(weight, Uint16Array.of(f32ToF16(1)));
    device.runVariant(member!, { x, weight, out });
    const [first, ...rest] = (await device.read(out)) as Float32Array;
    expect(first).toBe(65_504);
    expect(rest.some((value) => value !== 0)).toBe(false);
  });

  it.runIf(testDevices.includes('webgpu'))('are not made for a device opened without features', async () => {
    await using device = await openWebGpu({ features: 'none' });
    expect(device.traits.subgroupMatrixConfigs).toEqual([]);
  });
});
