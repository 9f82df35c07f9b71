/** Quantised builds, decoded by plain loops straight from the layouts' descriptions, against the weights they stand for. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lookUp } from '../bench/make-model/catalogue.ts';
import type { HuggingFaceConfig } from '../bench/make-model/config.ts';
import { toF8E4M3 } from '../bench/make-model/formats/compressed.ts';
import {
  modelWeights,
  type QuantisedFormatName,
  quantisedFormats,
  writeModelFolder,
} from '../bench/make-model/index.ts';
import { projectionsOf, tensorsOf } from '../bench/make-model/tensors.ts';
import { awqZero, decoders, wordsOf } from './support/quantised-peer.ts';
import { float, floatsOf, type PeerTensor, readFileWithPeer } from './support/safetensors-peer.ts';
import { largestDifference } from './support/tiny-guard.ts';

/** Biases, grouped heads, and inputs of several groups of 128. */
const config: HuggingFaceConfig = {
  ...lookUp('tiny-qwen2.5').config,
  hidden_size: 256,
  head_dim: 64,
  num_attention_heads: 4,
  intermediate_size: 384,
};
const groupSize = 128;

/** The tensors of a build by name, and the numbers that its seed gives unquantised. */
interface Build {
  readonly json: Record<string, Record<string, unknown>>;
  readonly tensors: ReadonlyMap<string, PeerTensor>;
  readonly weights: ReadonlyMap<string, Float32Array>;
}

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'make-model-formats-'));
});
afterAll(() => rm(root, { recursive: true }));

async function build(quantised: QuantisedFormatName, of = config): Promise<Build> {
  const folder = await mkdtemp(join(root, 'build-'));
  await writeModelFolder(folder, of, { quantised, seed: 5 });
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json'));
  const texts = await Promise.all(
    names.map(async (name) => [name, JSON.parse(await readFile(join(folder, name), 'utf8'))]),
  );
  const dtype = quantised.startsWith('compressed') ? 'BF16' : 'F16';
  return {
    json: Object.fromEntries(texts),
    tensors: await readFileWithPeer(join(folder, 'model.safetensors')),
    weights: modelWeights(of, { dtype, seed: 5 }),
  };
}

const modules = Array.from({ length: config.num_hidden_layers }, (_, layer) =>
  Object.entries(projectionsOf(config)).map(
    ([module, [outputs, inputs]]) => [`model.layers.${layer}.${module}`, outputs, inputs] as const,
  ),
).flat();

/** Names, shapes and dtypes: those of projections as told, all others as in the unquantised model. */
function expectTensors(
  { tensors }: Build,
  otherDType: string,
  parts: (outputs: number, inputs: number) => Record<string, readonly [dtype: string, shape: readonly number[]]>,
): void {
  const expected: Record<string, unknown> = {};
  for (const { name, shape } of tensorsOf(config)) {
    if (!name.endsWith('_proj.weight')) expected[name] = [otherDType, shape];
  }
  for (const [module, outputs, inputs] of modules) {
    for (const [part, about] of Object.entries(parts(outputs, inputs))) expected[`${module}.${part}`] = about;
  }
  expect(Object.fromEntries([...tensors].map(([name, { dtype, shape }]) => [name, [dtype, shape]]))).toEqual(expected);
}

/** How far the decoded weights of a module are from those they stand for, in steps between quants. */
function errorsOf(
  { tensors, weights }: Build,
  format: QuantisedFormatName,
  [module, outputs, inputs]: (typeof modules)[number],
): { readonly worst: number; readonly mean: number } {
  const decode = decoders[format]((part) => tensors.get(`${module}.${part}`)!, outputs, inputs);
  const intended = weights.get(`${module}.weight`)!;
  let [worst, sum] = [0, 0];
  for (let output = 0; output < outputs; output++) {
    for (let input = 0; input < inputs; input++) {
      const { value, step } = decode(output, input);
      const error = Math.abs(value - intended[output * inputs + input]!) / step;
      worst = Math.max(worst, error);
      sum += error;
    }
  }
  return { worst, mean: sum / (outputs * inputs) };
}
/** Rounding to nearest is off by a quarter of a step on average. */
const expectRounded = ({ worst, mean }: ReturnType<typeof errorsOf>, largest: number) => {
  expect(worst).toBeLessThan(largest);
  expect(mean).toBeGreaterThan(0.2);
  expect(mean).toBeLessThan(0.27);
};

describe('GPTQ', () => {
  let made: Build;
  beforeAll(async () => {
    made = await build('gptq');
  });

  it('has the tensors and settings of AutoGPTQ', () => {
    expectTensors(made, 'F16', (outputs, inputs) => ({
      qweight: ['I32', [inputs / 8, outputs]],
      qzeros: ['I32', [inputs / groupSize, outputs / 8]],
      scales: ['F16', [inputs / groupSize, outputs]],
      g_idx: ['I32', [inputs]],
    }));
    const settings = { bits: 4, group_size: groupSize, desc_act: false, sym: true, quant_method: 'gptq' };
    expect(made.json['config.json']).toMatchObject({ quantization_config: settings, torch_dtype: 'float16' });
    expect(made.json['quantize_config.json']).toEqual(made.json['config.json']!.quantization_config);
  });

  it('decodes to the weights', () => {
    for (const shape of modules) {
      const [module, , inputs] = shape;
      expectRounded(errorsOf(made, 'gptq', shape), 0.51);
      const [groups, qzeros] = ['g_idx', 'qzeros'].map((part) => wordsOf(made.tensors.get(`${module}.${part}`)!));
      expect([...groups!]).toEqual(Array.from({ length: inputs }, (_, input) => Math.floor(input / groupSize)));
      expect(new Set(qzeros)).toEqual(new Set([0x7777_7777]));
    }
  });
});

describe('AWQ', () => {
  let made: Build;
  beforeAll(async () => {
    made = await build('awq');
  });

  it('has the tensors and settings of AutoAWQ', () => {
    expectTensors(made, 'F16', (outputs, inputs) => ({
      qweight: ['I32', [inputs, outputs / 8]],
      qzeros: ['I32', [inputs / groupSize, outputs / 8]],
      scales: ['F16', [inputs / groupSize, outputs]],
    }));
    expect(made.json['config.json']).toMatchObject({
      quantization_config: { bits: 4, group_size: groupSize, quant_method: 'awq', version: 'gemm', zero_point: true },
      torch_dtype: 'float16',
    });
  });

  it('decodes to the weights', () => {
    for (const shape of modules) {
      const [module, outputs] = shape;
      // The zero point is rounded too: the ends of a group may be a step off.
      expectRounded(errorsOf(made, 'awq', shape), 1.01);
      const qzeros = wordsOf(made.tensors.get(`${module}.qzeros`)!);
      const zeros = Array.from({ length: outputs }, (_, output) => awqZero(qzeros, outputs, 0, output));
      expect(new Set(zeros).size).toBeGreaterThan(2);
    }
  });
});

describe.each([
  ['compressed-int8', 'I8', 'int-quantized', 'int', 126],
  ['compressed-fp8', 'F8_E4M3', 'float-quantized', 'float', 400],
] as const)('%s', (name, dtype, format, type, largest) => {
  let made: Build;
  beforeAll(async () => {
    made = await build(name);
  });

  it('has the tensors and settings of compressed-tensors', () => {
    expectTensors(made, 'BF16', (outputs, inputs) => ({
      weight: [dtype, [outputs, inputs]],
      weight_scale: ['BF16', [outputs, 1]],
    }));
    expect(made.json['config.json']).toMatchObject({
      quantization_config: {
        quant_method: 'compressed-tensors',
        format,
        ignore: ['lm_head'],
        config_groups: {
          group_0: { weights: { num_bits: 8, type, strategy: 'channel', symmetric: true, dynamic: false } },
        },
      },
      torch_dtype: 'bfloat16',
    });
  });

  it('decodes to the weights', () => {
    for (const shape of modules) {
      const weight = made.tensors.get(`${shape[0]}.weight`)!;
      const quants = dtype === 'I8' ? Float64Array.from(new Int8Array(weight.bytes)) : floatsOf(weight);
      // The scale is rounded to bfloat16: the largest weight may lie beyond the last quant.
      expectRounded(errorsOf(made, name, shape), 1.01);
      expect(quants.reduce((most, quant) => Math.max(most, Math.abs(quant)), 0)).toBeGreaterThan(largest);
    }
  });
});

it('an f8 is the nearest of all, ties to even', () => {
  const all = Array.from({ length: 127 }, (_, bits) => float(bits, 4, 3));
  fc.assert(
    fc.property(fc.double({ min: -500, max: 500, noNaN: true }), fc.boolean(), (number, small) => {
      const value = small ? number / 2 ** 14 : number;
      const bits = toF8E4M3(value);
      expect(bits & 0x7f).toBeLessThan(0x7f);
      const came = float(bits, 4, 3);
      const distance = Math.abs(came - value);
      const nearest = Math.min(...all.map((other) => Math.abs(other - Math.abs(value))));
      expect(distance).toBe(nearest);
    }),
  );
  for (const [value, bits] of [
    [0, 0],
    [448, 0x7e],
    [1000, 0x7e],
    [-448, 0xfe],
    [2 ** -9, 1],
    [2 ** -10, 0],
    [3 * 2 ** -10, 2],
    [17, 0x58],
    [19, 0x5a],
  ]) {
    expect(toF8E4M3(value!)).toBe(bits);
  }
});

describe('a build', () => {
  it('keeps other tensors and biases as the unquantised model has them', async () => {
    const { tensors, weights } = await build('awq');
    for (const name of ['model.embed_tokens.weight', 'model.norm.weight', 'model.layers.1.self_attn.k_proj.bias']) {
      expect(largestDifference(floatsOf(tensors.get(name)!), weights.get(name)!)).toBe(0);
    }
  });

  it('has smaller groups where 128 does not divide the inputs, and none where 32 does not', async () => {
    const { json, tensors } = await build('gptq', lookUp('tiny-llama-2').config);
    expect(json['config.json']).toMatchObject({ quantization_config: { group_size: 32 } });
    expect(tensors.get('model.layers.0.mlp.down_proj.scales')!.shape).toEqual([3, 64]);
    await expect(build('gptq', { ...config, intermediate_size: 40 })).rejects.toThrow(/multiple of 32.*256, 40/);
  });

  it.each(Object.keys(quantisedFormats) as QuantisedFormatName[])(
    'of %s has one dtype for what is left',
    async (name) => {
      const folder = await mkdtemp(join(root, 'build-'));
      const options = { quantised: name, dtype: 'F32' } as const;
      await expect(writeModelFolder(folder, config, options)).rejects.toThrow(/stores other tensors as/);
    },
  );
});
