/** Layouts of quantised builds, packed number by number by plain loops, against what the engine reads of them. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectedTensors, type LlamaConfig } from '../engine/config.ts';
import { ModelError } from '../engine/errors.ts';
import { orThrow } from '../engine/problems.ts';
import { checkWeights } from '../engine/quantised/check.ts';
import { quantisedBuildOf } from '../engine/quantised/config.ts';
import { SafetensorsSource } from '../engine/safetensors/source.ts';
import { streamTensors } from '../engine/weight-stream.ts';
import { planWeights } from '../engine/weights.ts';
import {
  isQuantised,
  sectionsOf,
  storedArray,
  storedBytes,
  storedElementBytes,
  type WeightDType,
} from '../kernels/contract.ts';
import { decodeRows } from '../kernels/quantise.ts';
import { MemoryFile } from './support/memory-file.ts';
import { encodeSafetensors, smallConfig, type TensorData } from './support/model-files.ts';
import {
  awq,
  bitsAndBytes,
  drawNumbers,
  gptq,
  intQuantised,
  type Layout,
  layouts,
  numbersOf,
  packQuantised,
  type QuantNumbers,
  roundToF16,
} from './support/quantised.ts';

/** Projections of 64 and 160 inputs, groups of 64 and 128 that do not fill the last among them. */
const config = smallConfig({
  hiddenSize: 64,
  intermediateSize: 160,
  numHiddenLayers: 1,
  numAttentionHeads: 4,
  numKeyValueHeads: 2,
  headDim: 16,
});

interface Build {
  readonly tensors: Record<string, TensorData>;
  /** By the names of the matrices that they stand for. */
  readonly numbers: ReadonlyMap<string, QuantNumbers>;
}

/** All projections in a layout, with plain tensors beside them. */
function buildOf(layout: Layout, seed: number, of: LlamaConfig = config): Build {
  const tensors: Record<string, TensorData> = {};
  const numbers = new Map<string, QuantNumbers>();
  let drawn = seed;
  for (const [name, shape] of expectedTensors(of)) {
    drawn++;
    if (!name.endsWith('_proj.weight')) {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => ((i + drawn) % 17) / 16);
      tensors[name] = { dtype: 'F16', shape, data };
      continue;
    }
    const module = name.slice(0, -'.weight'.length);
    const own = drawNumbers(layout, shape[0]!, shape[1]!, drawn);
    numbers.set(name, own);
    for (const [part, data] of Object.entries(layout.tensors(own))) tensors[`${module}.${part}`] = data;
  }
  return { tensors, numbers };
}

async function open({ config: quantization_config }: Layout, tensors: Record<string, TensorData>) {
  const stored = await SafetensorsSource.open([new MemoryFile(encodeSafetensors(tensors))]);
  return orThrow((problems) =>
    checkWeights(config, quantisedBuildOf({ quantization_config }, 'config.json'), stored, problems),
  );
}

/** Bytes that the tensors of a model take in its files. */
const checkpointBytes = ({ config, source }: Awaited<ReturnType<typeof open>>): number =>
  [...expectedTensors(config).keys()]
    .map((name) => source.tensors.get(name)!)
    .reduce((sum, { begin, end }) => sum + end - begin, 0);

/** A device's tensors in memory, decoded. */
async function loaded({ config, source }: Awaited<ReturnType<typeof open>>, dtype: WeightDType) {
  const plan = planWeights(config, dtype);
  const stored = new Map(
    plan.map(({ label, dtype, shape }) => [label, new Uint8Array(storedBytes(dtype, shape))] as const),
  );
  let sourceBytes = 0;
  for await (const { label, firstRow, sections, sourceBytes: own } of streamTensors(plan, source)) {
    const { dtype, shape } = plan.find((tensor) => tensor.label === label)!;
    for (const [i, { offset, rowBytes }] of sectionsOf(dtype, shape).entries()) {
      stored.get(label)!.set(sections[i]!, offset + firstRow * rowBytes);
    }
    sourceBytes += own;
  }
  const tensors = new Map(
    plan.map(({ label, dtype, shape }) => {
      const bytes = stored.get(label)!;
      const array = storedArray(dtype, bytes.length / storedElementBytes(dtype));
      new Uint8Array(array.buffer).set(bytes);
      const [rows = 1, width = 1] = shape;
      const values = new Float64Array(rows * width);
      decodeRows(array, dtype, [rows, width], 0, values);
      return [label, { dtype, values }] as const;
    }),
  );
  return { tensors, sourceBytes };
}

/** Rows of several matrices, taking turns. */
const interleaved = (parts: readonly Float64Array[], width: number): Float64Array => {
  const rows = parts[0]!.length / width;
  return Float64Array.from(
    Array.from({ length: rows }, (_, row) =>
      parts.flatMap((part) => [...part.subarray(row * width, (row + 1) * width)]),
    ).flat(),
  );
};

describe.each(Object.entries(layouts))('%s', (_, arbitrary) => {
  it('is read as the numbers that it means, whatever the chunks', async () => {
    await fc.assert(
      fc.asyncProperty(
        arbitrary,
        fc.nat(1e6),
        fc.integer({ min: 1, max: 30_000 }),
        async (layout, seed, chunkBytes) => {
          const { tensors, numbers } = buildOf(layout, seed);
          const { source } = await open(layout, tensors);
          for (const [name, own] of numbers) {
            expect(source.tensors.get(name)).toMatchObject({ dtype: 'F32', shape: [own.outputs, own.inputs] });
            const parts: Uint8Array[] = [];
            for await (const chunk of source.read(name, { chunkBytes })) parts.push(chunk.slice());
            const expected = Float32Array.from(numbersOf(own, layout.value));
            expect(Buffer.concat(parts).equals(Buffer.from(expected.buffer))).toBe(true);
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  it('is loaded in its own dtype without another rounding of quants, where its groups are blocks', async () => {
    await fc.assert(
      fc.asyncProperty(arbitrary, fc.nat(1e6), async (layout, seed) => {
        const { tensors, numbers } = buildOf(layout, seed);
        const opened = await open(layout, tensors);
        const { dtype } = opened.quantised!;
        const { tensors: held, sourceBytes } = await loaded(opened, dtype);
        expect(sourceBytes).toBe(checkpointBytes(opened));
        expect(held.get('embedding')!.dtype).toBe('f16');
        expect(held.get('head')!.dtype).toBe('f16');
        const own = numbers.get('model.layers.0.mlp.down_proj.weight')!;
        const { dtype: heldAs, values } = held.get('layers.0.down')!;
        expect(heldAs).toBe(dtype);
        const exact = numbersOf(own, layout.value);
        const bound = errorBound(layout, own, dtype);
        const beyond = exact.findIndex((value, i) => {
          return !(Math.abs(values[i]! - value) <= bound(Math.floor(i / own.inputs), i % own.inputs));
        });
        expect(beyond, `number ${beyond}: ${values[beyond]} for ${exact[beyond]}`).toBe(-1);
      }),
      { numRuns: 8 },
    );
  });
});

/** How far a number of an output may be off in blocks. */
function errorBound(
  layout: Layout,
  { scales, zeros, groupOf, quants }: QuantNumbers,
  dtype: WeightDType,
): (output: number, input: number) => number {
  const [least, most] = layout.quants;
  // Signed bytes say what is counted from the middle.
  const middle = Math.floor((least + most + 1) / 2);
  const direct =
    !layout.scattered && !layout.value && (dtype === 'q4' || zeros.flat().every((zero) => zero === middle));
  return (output, input) => {
    const group = groupOf[input]!;
    const [scale, zero] = [scales[output]![group]!, zeros[output]![group]!];
    // Scales of eight bits are exact in f16, and so is their product with few bits; else it is rounded once.
    const minimum = scale * (zero - (dtype === 'q4' && least < 0 ? least : 0));
    if (direct) return dtype === 'q4' ? Math.abs(roundToF16(minimum) - minimum) : 0;
    // Quantised anew in q8: half a step of the largest of its block, and what the scale's rounding adds.
    const first = 32 * Math.floor(input / 32);
    const block = quants[output]!.slice(first, first + 32).map((quant, i) => {
      const at = groupOf[first + i]!;
      return Math.abs(scales[output]![at]! * ((layout.value?.(quant) ?? quant) - zeros[output]![at]!));
    });
    return (Math.max(...block) / 127) * 0.57;
  };
}

it('gate and up take turns in blocks as in numbers', async () => {
  const layout = awq({ groupSize: 32 });
  const { tensors, numbers } = buildOf(layout, 3);
  const opened = await open(layout, tensors);
  const exact = interleaved(
    ['gate', 'up'].map((name) => numbersOf(numbers.get(`model.layers.0.mlp.${name}_proj.weight`)!)),
    config.hiddenSize,
  );
  for (const [dtype, bound] of [
    ['q4', 0.004],
    ['f32', 0],
  ] as const) {
    const { values } = (await loaded(opened, dtype)).tensors.get('layers.0.gateUp')!;
    const largest = Math.max(...exact.map(Math.abs));
    expect(Math.max(...values.map((value, i) => Math.abs(value - exact[i]!)))).toBeLessThanOrEqual(bound * largest);
  }
});

it('in another dtype than its own, whole matrices are f16 where others are quantised, else as asked for', async () => {
  const layout = gptq(4, { groupSize: 32 });
  const opened = await open(layout, buildOf(layout, 1).tensors);
  for (const dtype of ['f32', 'f16', 'q8'] as const) {
    const { tensors } = await loaded(opened, dtype);
    expect(tensors.get('layers.0.down')!.dtype).toBe(dtype);
    expect(tensors.get('head')!.dtype).toBe(isQuantised(dtype) ? 'f16' : dtype);
  }
});

it('a projection that was left whole makes those that share its matrix f16', async () => {
  const layout = gptq(4, { groupSize: 32 });
  const { tensors } = buildOf(layout, 1);
  const module = 'model.layers.0.self_attn.v_proj';
  for (const part of ['qweight', 'qzeros', 'scales', 'g_idx']) delete tensors[`${module}.${part}`];
  const whole = Float32Array.from({ length: 32 * 64 }, (_, i) => i / 2048);
  tensors[`${module}.weight`] = { dtype: 'F16', shape: [32, 64], data: whole };
  const opened = await open(layout, tensors);
  expect(opened.config.wholeMatrices).toEqual(['model.embed_tokens.weight', `${module}.weight`, 'lm_head.weight']);
  const { tensors: held } = await loaded(opened, 'q4');
  expect(held.get('layers.0.queryKeyValue')!.dtype).toBe('f16');
  expect(held.get('layers.0.queryKeyValue')!.values.subarray(-whole.length)).toEqual(Float64Array.from(whole));
  expect(held.get('layers.0.down')!.dtype).toBe('q4');
});

describe('what a build holds', () => {
  const layout = gptq(4, { groupSize: 32 });
  const module = 'model.layers.0.mlp.up_proj';
  const errorOf = async (action: () => Promise<unknown>): Promise<ModelError> => {
    const error = await action().then(
      () => undefined,
      (reason) => reason,
    );
    expect(error).toBeInstanceOf(ModelError);
    return error;
  };
  const opening = (of: Layout, change: (tensors: Record<string, TensorData>) => void) => {
    const { tensors } = buildOf(of, 1);
    change(tensors);
    return open(of, tensors);
  };
  const loading = async (of: Layout, change: (tensors: Record<string, TensorData>) => void) =>
    loaded(await opening(of, change), 'f32');

  it.each(['qweight', 'qzeros', 'scales'])('%s has to be there', async (part) => {
    const error = await errorOf(() => opening(layout, (tensors) => delete tensors[`${module}.${part}`]));
    expect(error.code).toBe('tensor-missing');
    expect(error.message).toContain(`lack "${module}.${part}", a part of a matrix in GPTQ, 4 bits, groups of 32`);
  });

  it('may lack the order of its groups', async () => {
    const { source } = await opening(layout, (tensors) => delete tensors[`${module}.g_idx`]);
    expect(source.blocks!.dtypeOf(`${module}.weight`)).toBe('q4');
  });

  it.each([
    [
      'qweight',
      'tensor-mismatch',
      { dtype: 'I32', shape: [64, 20], data: new Uint8Array(4 * 1280) },
      /must have shape \[8,160\]/,
    ],
    [
      'scales',
      'dtype-unsupported',
      { dtype: 'I32', shape: [2, 160], data: new Uint8Array(4 * 320) },
      /must be stored as F32 or F16 or BF16/,
    ],
  ] as const)('%s has to be as the format says: %s', async (part, code, tensor, message) => {
    const error = await errorOf(() =>
      opening(layout, (tensors) => void Object.assign(tensors, { [`${module}.${part}`]: tensor })),
    );
    expect(error.code).toBe(code);
    expect(error.message).toContain(`"${module}.${part}"`);
    expect(error.message).toMatch(message);
  });

  it('has no groups beyond those there are', async () => {
    const groupOf = new Uint8Array(Int32Array.from({ length: 64 }, (_, i) => (i === 9 ? -1 : 0)).buffer);
    const error = await errorOf(() =>
      loading(layout, (tensors) => {
        tensors[`${module}.g_idx`] = { dtype: 'I32', shape: [64], data: groupOf };
      }),
    );
    expect(error.code).toBe('tensor-mismatch');
    expect(error.message).toMatch(/up_proj\.g_idx" must hold numbers of 2 groups, but holds -1/);
  });

  it('may have biases of zeros where the architecture has none, but no others', async () => {
    const bias = (value: number) => (tensors: Record<string, TensorData>) => {
      const data = new Float32Array(160);
      data[77] = value;
      tensors[`${module}.bias`] = { dtype: 'F16', shape: [160], data };
    };
    await loading(layout, bias(0));
    await loading(layout, bias(-0));
    const error = await errorOf(() => loading(layout, bias(2 ** -24)));
    expect(error.code).toBe('tensor-mismatch');
    expect(error.message).toMatch(/up_proj\.bias" must be zeros/);
    const wide = await errorOf(() =>
      loading(layout, (tensors) => {
        tensors[`${module}.bias`] = { dtype: 'F16', shape: [161], data: new Float32Array(161) };
      }),
    );
    expect(wide.message).toMatch(/up_proj\.bias" must have shape \[160\] in GPTQ/);
  });

  it('must fit f16 to be taken over in blocks', async () => {
    const far = intQuantised();
    const { tensors } = buildOf(far, 1);
    tensors[`${module}.weight_scale`] = { dtype: 'F32', shape: [160, 1], data: new Float32Array(160).fill(1e5) };
    const opened = await open(far, tensors);
    const error = await errorOf(() => loaded(opened, 'q8'));
    expect(error.code).toBe('dtype-unsupported');
    expect(error.message).toMatch(
      /'model\.layers\.0\.mlp\.up_proj\.weight' has numbers that q8 cannot hold.*dtype f32/,
    );
    await loaded(opened, 'f32');
  });

  it('must have rows one after another in bitsandbytes', async () => {
    const error = await errorOf(() =>
      loading(bitsAndBytes(), (tensors) => {
        tensors[`${module}.weight_format`] = { dtype: 'U8', shape: [], data: Uint8Array.of(2) };
      }),
    );
    expect(error.code).toBe('tensor-mismatch');
    expect(error.message).toMatch(/weight_format" must be 0.*but is 2/);
  });

  it('must say in config.json how', async () => {
    const { tensors } = buildOf(layout, 1);
    const stored = await SafetensorsSource.open([new MemoryFile(encodeSafetensors(tensors))]);
    const error = await errorOf(async () => orThrow((problems) => checkWeights(config, undefined, stored, problems)));
    expect(error.code).toBe('tensor-missing');
    expect(error.message).toMatch(
      /They hold ".*qweight", of a quantised build, but config\.json has no 'quantization_config'/,
    );
  });
});

describe('a quantization_config', () => {
  const gptqConfig = gptq(4, { groupSize: 128 }).config;
  const awqConfig = awq({ groupSize: 128 }).config;
  const packed = packQuantised(4, { groupSize: 128 }).config;
  const weightsOf = (changes: Record<string, unknown>) => {
    const json = JSON.parse(JSON.stringify(packed));
    Object.assign(json.config_groups.group_0.weights, changes);
    return json;
  };
  const parse = (quantization_config: unknown) => quantisedBuildOf({ quantization_config }, 'config.json');

  it.each([
    [gptqConfig, 'GPTQ, 4 bits, groups of 128', 'q4'],
    [{ ...gptqConfig, desc_act: true }, 'GPTQ, 4 bits, groups of 128 in order of activation', 'q8'],
    // One group, or groups as they were before the order, are neighbours.
    [{ ...gptqConfig, desc_act: true, group_size: -1 }, 'GPTQ, 4 bits, a scale for each output', 'q4'],
    [{ ...gptqConfig, desc_act: true, static_groups: true }, 'GPTQ, 4 bits, groups of 128', 'q4'],
    [{ ...gptqConfig, dynamic: { '-:.*down_proj': {} }, checkpoint_format: null }, 'GPTQ, 4 bits, groups of 128', 'q4'],
    [awqConfig, 'AWQ, 4 bits, groups of 128', 'q4'],
    [packed, 'compressed-tensors pack-quantized, 4 bits, groups of 128', 'q4'],
    [weightsOf({ actorder: 'weight' }), 'compressed-tensors pack-quantized, 4 bits, groups of 128', 'q4'],
    [
      weightsOf({ actorder: true }),
      'compressed-tensors pack-quantized, 4 bits, groups of 128 in order of activation',
      'q8',
    ],
    [intQuantised({ single: true }).config, 'compressed-tensors int-quantized, 8 bits, one scale', 'q8'],
    [bitsAndBytes().config, 'bitsandbytes, 8 bits, a scale for each output', 'q8'],
  ])('is named: %j', (json, name, dtype) => {
    expect(parse(json)).toMatchObject({ name, dtype });
  });

  it.each([
    [
      { quant_method: 'fp8', weight_block_size: [128, 128] },
      /gptq, awq, compressed-tensors, bitsandbytes are read, but 'quant_method' is "fp8"/,
    ],
    [{ quant_method: 'toString' }, /'quant_method' is "toString"/],
    [{ ...gptqConfig, bits: 3 }, /'bits' is 3/],
    [{ ...gptqConfig, group_size: 48 }, /'group_size' must be -1 or a multiple of 32, but is 48/],
    [{ ...gptqConfig, checkpoint_format: 'marlin' }, /gptq and gptq_v2 are read, but this is "marlin"/],
    [{ ...gptqConfig, is_marlin_format: true }, /this is 'marlin'/],
    [{ ...gptqConfig, pack_dtype: 'int8' }, /'pack_dtype' must be 'int32'/],
    [{ ...gptqConfig, dynamic: { '+:.*': { bits: 8 } } }, /'dynamic'.*"\+:\.\*"/],
    [{ ...awqConfig, version: 'gemv' }, /version 'gemm'.*this is "gemv"/],
    [{ ...awqConfig, zero_point: false }, /without/],
    [{ ...awqConfig, bits: 8 }, /AWQ is read in 4 bits/],
    [{ ...packed, format: 'marlin-24' }, /this is marlin-24, int, 4 bits/],
    [weightsOf({ num_bits: 3 }), /this is pack-quantized, int, 3 bits/],
    [weightsOf({ strategy: 'block' }), /strategy "block"/],
    [{ ...packed, sparsity_config: { format: 'sparse-24' } }, /'sparsity_config'.*"sparse-24"/],
    [{ ...packed, transform_config: { config_groups: {} } }, /'transform_config'/],
    [{ ...packed, config_groups: {} }, /'config_groups' has 0/],
    [
      {
        ...packed,
        config_groups: { a: weightsOf({}).config_groups.group_0, b: weightsOf({ num_bits: 8 }).config_groups.group_0 },
      },
      /'config_groups' has 2/,
    ],
    [
      { quant_method: 'bitsandbytes', load_in_4bit: true, bnb_4bit_quant_type: 'nf4' },
      /of bitsandbytes 8 bits are read.*4 bits/,
    ],
  ])('is refused by name: %j', (json, message) => {
    expect(() => parse(json)).toThrow(expect.objectContaining({ code: 'architecture-unsupported' }));
    expect(() => parse(json)).toThrow(message);
    expect(() => parse(json)).toThrow(/^config\.json: 'quantization_config': /);
  });

  it('may stand under the name that compressed-tensors gave it first', () => {
    const of = (json: unknown) => quantisedBuildOf(json, 'config.json');
    expect(of({ compression_config: packed })?.name).toBe(parse(packed)?.name);
    expect(of({ quantization_config: null, compression_config: packed })?.name).toBe(parse(packed)?.name);
    expect(() => of({ compression_config: {} })).toThrow(/^config\.json: 'compression_config': 'quant_method' must be/);
  });

  it.each([
    ['gptq', gptqConfig, 160, 60],
    ['gptq', gptqConfig, 156, 64],
    ['awq', awqConfig, 160, 60],
    ['awq', awqConfig, 156, 64],
    ['compressed-tensors', packed, 160, 60],
  ])('of %s in words is no way to hold a matrix that does not fill them', (_, json, outputs, inputs) => {
    expect(() => parse(json)!.parts(outputs, inputs)).toThrow(
      expect.objectContaining({
        code: 'architecture-unsupported',
        message: expect.stringMatching(/multiple of 8 inputs and outputs, but one has (?:60|156)/),
      }),
    );
  });

  it('whatever it holds is read or refused by a ModelError', () => {
    const bases = [gptqConfig, awqConfig, packed, weightsOf({}), bitsAndBytes().config];
    const fields = [...new Set(bases.flatMap((base) => Object.keys(base))), 'desc_act', 'dynamic', 'sparsity_config'];
    const change = fc.tuple(
      fc.constantFrom(...fields),
      fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.integer(), fc.constant(-1)),
    );
    fc.assert(
      fc.property(fc.constantFrom(...bases), fc.array(change, { minLength: 1, maxLength: 3 }), (base, changes) => {
        try {
          parse(JSON.parse(JSON.stringify({ ...base, ...Object.fromEntries(changes) })))?.parts(160, 64);
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
          expect((error as ModelError).message).toMatch(/^config\.json: 'quantization_config': /);
        }
      }),
      { numRuns: 500 },
    );
  });
});
