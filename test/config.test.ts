import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ArchitectureName, architectures } from '../engine/architectures.ts';
import { architectureOf, expectedTensors, parameterCount, parseLlamaConfig } from '../engine/config.ts';
import { ModelError } from '../engine/errors.ts';
import type { LlamaConfig } from '../engine/index.ts';
import { architectureNames, traits } from './support/family.ts';
import { huggingFaceConfig, smallConfig } from './support/model-files.ts';

const valid = huggingFaceConfig(smallConfig());
const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

function parse(changes: Record<string, unknown>) {
  // As a file holds it: what is undefined is absent.
  return parseLlamaConfig(JSON.parse(JSON.stringify({ ...valid, ...changes })), 'config.json');
}

function without(...fields: string[]) {
  return parse(Object.fromEntries(fields.map((field) => [field, undefined])));
}

function errorOf(action: () => unknown): ModelError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelError);
    return error as ModelError;
  }
  throw new Error('A ModelError was expected, but nothing was thrown.');
}

describe('a valid config.json', () => {
  test('gives back every field', () => {
    expect(parse({})).toEqual(smallConfig());
  });

  test('of the embedded tiny-guard is what its README says', async () => {
    const file = new URL('../guard/models/tiny-guard/config.json', import.meta.url);
    const config = parseLlamaConfig(JSON.parse(await readFile(file, 'utf8')), 'config.json');
    expect(config).toEqual({
      vocabularySize: 4096,
      hiddenSize: 192,
      intermediateSize: 512,
      numHiddenLayers: 6,
      numAttentionHeads: 6,
      numKeyValueHeads: 6,
      headDim: 32,
      maxPositionEmbeddings: 2048,
      rmsNormEpsilon: 1e-5,
      ropeTheta: 10_000,
      tieWordEmbeddings: false,
      bosTokenId: 1,
      eosTokenIds: [2],
    });
    expect(parameterCount(config)).toBe(4_229_568);
  });

  test("takes transformers' defaults for what is absent", () => {
    const config = without(
      'num_key_value_heads',
      'head_dim',
      'max_position_embeddings',
      'rms_norm_eps',
      'rope_theta',
      'rope_scaling',
      'tie_word_embeddings',
      'hidden_act',
      'attention_bias',
      'mlp_bias',
      'bos_token_id',
      'eos_token_id',
    );
    expect(config).toEqual(
      smallConfig({ numKeyValueHeads: 4, headDim: 6, maxPositionEmbeddings: 2048, rmsNormEpsilon: 1e-6 }),
    );
  });

  test('may say null where the default is meant', () => {
    const config = parse({ num_key_value_heads: null, head_dim: null, rope_parameters: null });
    expect(config).toMatchObject({ numKeyValueHeads: 4, headDim: 6 });
  });

  test('may say null where there is no such token', () => {
    expect(parse({ bos_token_id: null, eos_token_id: null })).toMatchObject({ bosTokenId: null, eosTokenIds: [] });
  });

  test('may have heads that do not add up to the hidden size, if head_dim says so', () => {
    const config = parse({ head_dim: 10 });
    expect(config.headDim).toBe(10);
    expect(expectedTensors(config).get('model.layers.0.self_attn.q_proj.weight')).toEqual([40, 24]);
    expect(expectedTensors(config).get('model.layers.0.self_attn.o_proj.weight')).toEqual([24, 40]);
  });

  test('may list several end-of-sequence ids', () => {
    expect(parse({ eos_token_id: [2, 5, 7] }).eosTokenIds).toEqual([2, 5, 7]);
  });

  test('may be written by transformers 5', () => {
    const rope_parameters = { rope_theta: 500_000, rope_type: 'default' };
    expect(parse({ rope_theta: undefined, rope_scaling: undefined, rope_parameters }).ropeTheta).toBe(500_000);
    expect(parse({ rope_theta: undefined, rope_parameters: {} }).ropeTheta).toBe(10_000);
    const scaled = parse({
      rope_theta: undefined,
      rope_scaling: undefined,
      rope_parameters: { ...llama3, rope_theta: 7 },
    });
    expect(scaled).toMatchObject({ ropeTheta: 7, ropeScaling: { type: 'llama3', factor: 8 } });
  });

  test('may name only one of architecture and model type', () => {
    expect(without('architectures')).toEqual(smallConfig());
    expect(without('model_type')).toEqual(smallConfig());
  });

  test('may have a RoPE scaling of type default, which scales nothing', () => {
    expect(parse({ rope_scaling: { rope_type: 'default' } })).toEqual(smallConfig());
    expect(parse({ rope_scaling: { type: 'default' } })).toEqual(smallConfig());
  });
});

describe('a model of another kind', () => {
  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      'another architecture',
      { architectures: ['GemmaForCausalLM'], model_type: 'gemma' },
      /LlamaForCausalLM.*MistralForCausalLM.*Qwen2ForCausalLM.* and Qwen3ForCausalLM.*supported.*GemmaForCausalLM/,
    ],
    ['one architecture with the model type of another', { architectures: ['MistralForCausalLM'] }, /Mistral.*"llama"/],
    ['a Llama classifier', { architectures: ['LlamaForSequenceClassification'] }, /SequenceClassification/],
    ['another model type', { model_type: 'gemma' }, /gemma/],
    ['no name at all', { architectures: undefined, model_type: undefined }, /unnamed/],
    ['an activation other than silu', { hidden_act: 'gelu' }, /hidden_act.*gelu/],
    [
      'a Mistral with a bias',
      { architectures: ['MistralForCausalLM'], model_type: 'mistral', attention_bias: true },
      /'attention_bias'.*mistral/,
    ],
    ['a Llama with windows', { layer_types: ['full_attention', 'sliding_attention'] }, /layer_types.*full_attention/],
    ['an MLP with a bias', { mlp_bias: true }, /mlp_bias/],
    ['another scaling of RoPE', { rope_scaling: { rope_type: 'yarn', factor: 4 } }, /'rope_scaling'.*llama3.*"yarn"/],
    ['a scaling named the old way', { rope_scaling: { type: 'dynamic', factor: 2 } }, /'rope_scaling'.*"dynamic"/],
    ['a scaling as of transformers 5', { rope_parameters: { rope_type: 'longrope' } }, /'rope_parameters'.*"longrope"/],
    ['an unnamed RoPE scaling', { rope_scaling: { factor: 2 } }, /'rope_scaling'/],
    [
      'RoPE by layers',
      { rope_parameters: { full_attention: { rope_theta: 1e6 } } },
      /'rope_parameters\.full_attention'/,
    ],
    ['a partial RoPE', { partial_rotary_factor: 0.5 }, /'partial_rotary_factor'/],
    [
      'a partial RoPE as of transformers 5',
      { rope_parameters: { partial_rotary_factor: 0.5 } },
      /'rope_parameters\.part/,
    ],
    ['quantized weights', { quantization_config: { quant_method: 'gptq' } }, /quantization_config/],
  ])('is refused: %s', (_, changes, message) => {
    const error = errorOf(() => parse(changes));
    expect(error.code).toBe('architecture-unsupported');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('config.json');
  });

  test('is refused for its kind even if it lacks all the sizes', () => {
    const error = errorOf(() => parseLlamaConfig({ model_type: 'gpt2', n_embd: 768 }, 'config.json'));
    expect(error.code).toBe('architecture-unsupported');
  });
});

describe('impossible numbers', () => {
  const sizes = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
  ];
  const bad = [0, -1, 1.5, 1e9, 2 ** 53, '24', [], {}, true];
  test.each(sizes.flatMap((field) => bad.map((value) => [field, value] as const)))('%s of %j', (field, value) => {
    const error = errorOf(() => parse({ [field]: value }));
    expect(error.code).toBe('config-invalid');
    expect(error.message).toContain(`'${field}'`);
    expect(error.message).toContain(JSON.stringify(value));
  });

  test.each(['vocab_size', 'hidden_size', 'intermediate_size', 'num_hidden_layers', 'num_attention_heads'])(
    '%s is required',
    (field) => {
      const error = errorOf(() => without(field));
      expect(error.code).toBe('config-invalid');
      expect(error.message).toContain(`'${field}'`);
    },
  );

  test.each<[string, Record<string, unknown>, RegExp]>([
    ['an epsilon of 0', { rms_norm_eps: 0 }, /rms_norm_eps/],
    ['a negative epsilon', { rms_norm_eps: -1e-6 }, /rms_norm_eps/],
    ['a theta of 0', { rope_theta: 0 }, /rope_theta/],
    ['a negative theta', { rope_parameters: { rope_theta: -1 } }, /rope_parameters\.rope_theta/],
    ['two thetas', { rope_theta: 10_000, rope_parameters: { rope_theta: 500_000 } }, /10000.*500000/],
    [
      'two scalings',
      { rope_scaling: llama3, rope_parameters: { ...llama3, factor: 4 } },
      /rope_scaling.*rope_parameters/,
    ],
    ['a scaling and none', { rope_scaling: llama3, rope_parameters: {} }, /rope_scaling.*rope_parameters.*"default"/],
    [
      'two types of scaling',
      { rope_scaling: { ...llama3, type: 'linear' } },
      /rope_scaling\.rope_type.*rope_scaling\.type/,
    ],
    [
      'two original contexts',
      { rope_scaling: llama3, original_max_position_embeddings: 4096 },
      /rope_scaling\.original_max_position_embeddings.*4096/,
    ],
    [
      'a low frequency above the high one',
      { rope_scaling: { ...llama3, low_freq_factor: 4 } },
      /rope_scaling\.high_freq_factor.*4/,
    ],
    ['a head wider than kernels serve', { head_dim: undefined, hidden_size: 2048 }, /256.*512/],
    ['a hidden size that no head count divides', { head_dim: undefined, hidden_size: 26 }, /multiple.*26/],
    ['heads that cannot share keys', { num_key_value_heads: 3 }, /num_key_value_heads.*4 and 3/],
    ['more key heads than heads', { num_key_value_heads: 8 }, /num_key_value_heads/],
    ['an odd head', { head_dim: 7 }, /even.*7/],
    ['an odd head by division', { head_dim: undefined, hidden_size: 28 }, /even.*7/],
    ['an end id beyond the vocabulary', { eos_token_id: [2, 67] }, /'eos_token_id'.*67.*67/],
    ['a start id beyond the vocabulary', { bos_token_id: 90 }, /'bos_token_id'.*67.*90/],
    ['a negative start id', { bos_token_id: -1 }, /bos_token_id/],
    ['end ids of another type', { eos_token_id: ['</s>'] }, /eos_token_id/],
    ['a flag that is no flag', { tie_word_embeddings: 'yes' }, /tie_word_embeddings/],
  ])('%s', (_, changes, message) => {
    const error = errorOf(() => parse(changes));
    expect(error.code).toBe('config-invalid');
    expect(error.message).toMatch(message);
  });

  test('NaN and infinity, which JSON has no name for but 1e999 gives', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, JSON.parse('1e999')]) {
      for (const field of ['hidden_size', 'rms_norm_eps', 'rope_theta']) {
        expect(errorOf(() => parseLlamaConfig({ ...valid, [field]: value }, 'config.json')).code).toBe(
          'config-invalid',
        );
      }
    }
  });

  test('all wrong fields are named at once', () => {
    const { message } = errorOf(() => parse({ hidden_size: -2.5, vocab_size: 0 }));
    expect(message).toMatch(/hidden_size/);
    expect(message).toMatch(/vocab_size/);
    expect(message.match(/'hidden_size'/g)).toHaveLength(1);
  });

  test.each([null, undefined, 3, 'x', [], [valid]].map((json) => [json]))('%j is no config', (json) => {
    const error = errorOf(() => parseLlamaConfig(json, 'config.json'));
    expect(error.message).toContain('config.json');
  });

  test('a very long value is cut in the message', () => {
    expect(errorOf(() => parse({ hidden_act: 'x'.repeat(1e6) })).message.length).toBeLessThan(400);
    expect(errorOf(() => parse({ hidden_size: Array(1e5).fill(1) })).message.length).toBeLessThan(400);
  });
});

/** What config.json of published models says that matters here. */
const published: Record<string, [json: Record<string, unknown>, parameters: number, means: Record<string, unknown>]> = {
  'Llama-Guard-3-8B': [
    {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      attention_bias: false,
      bos_token_id: 128_000,
      eos_token_id: [128_001, 128_008, 128_009],
      hidden_act: 'silu',
      hidden_size: 4096,
      intermediate_size: 14_336,
      max_position_embeddings: 131_072,
      mlp_bias: false,
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      pretraining_tp: 1,
      rms_norm_eps: 1e-5,
      rope_scaling: { ...llama3, factor: 8.0 },
      rope_theta: 500_000.0,
      tie_word_embeddings: false,
      vocab_size: 128_256,
    },
    8_030_261_248,
    { headDim: 128, ropeTheta: 500_000, eosTokenIds: [128_001, 128_008, 128_009] },
  ],
  'Llama-Guard-3-1B': [
    {
      architectures: ['LlamaForCausalLM'],
      model_type: 'llama',
      attention_bias: false,
      bos_token_id: 128_000,
      eos_token_id: [128_001, 128_008, 128_009],
      head_dim: 64,
      hidden_act: 'silu',
      hidden_size: 2048,
      intermediate_size: 8192,
      max_position_embeddings: 131_072,
      mlp_bias: false,
      num_attention_heads: 32,
      num_hidden_layers: 16,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-5,
      rope_scaling: { ...llama3, factor: 32.0 },
      rope_theta: 500_000.0,
      tie_word_embeddings: true,
      vocab_size: 128_256,
    },
    1_235_814_400,
    {
      tieWordEmbeddings: true,
      ropeScaling: {
        type: 'llama3',
        factor: 32,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalMaxPositionEmbeddings: 8192,
      },
    },
  ],
  'Mistral-7B-v0.1': [
    {
      architectures: ['MistralForCausalLM'],
      model_type: 'mistral',
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_act: 'silu',
      hidden_size: 4096,
      intermediate_size: 14_336,
      max_position_embeddings: 32_768,
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-5,
      rope_theta: 10_000.0,
      sliding_window: 4096,
      tie_word_embeddings: false,
      vocab_size: 32_000,
    },
    7_241_732_096,
    { headDim: 128, slidingWindows: new Array(32).fill(4096) },
  ],
  'Qwen2.5-0.5B': [
    {
      architectures: ['Qwen2ForCausalLM'],
      model_type: 'qwen2',
      bos_token_id: 151_643,
      eos_token_id: 151_643,
      hidden_act: 'silu',
      hidden_size: 896,
      intermediate_size: 4864,
      max_position_embeddings: 32_768,
      max_window_layers: 24,
      num_attention_heads: 14,
      num_hidden_layers: 24,
      num_key_value_heads: 2,
      rms_norm_eps: 1e-6,
      rope_theta: 1_000_000.0,
      sliding_window: 32_768,
      tie_word_embeddings: true,
      use_sliding_window: false,
      vocab_size: 151_936,
    },
    494_032_768,
    { headDim: 64, attentionBias: 'queryKeyValue', ropeTheta: 1_000_000 },
  ],
  'Qwen3-0.6B, and so Qwen3Guard-Gen-0.6B': [
    {
      architectures: ['Qwen3ForCausalLM'],
      model_type: 'qwen3',
      attention_bias: false,
      bos_token_id: 151_643,
      eos_token_id: 151_645,
      head_dim: 128,
      hidden_act: 'silu',
      hidden_size: 1024,
      intermediate_size: 3072,
      max_position_embeddings: 40_960,
      max_window_layers: 28,
      num_attention_heads: 16,
      num_hidden_layers: 28,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-6,
      rope_scaling: null,
      rope_theta: 1_000_000,
      sliding_window: null,
      tie_word_embeddings: true,
      use_sliding_window: false,
      vocab_size: 151_936,
    },
    596_049_920,
    { headDim: 128, normalisesHeads: true, rmsNormEpsilon: 1e-6 },
  ],
};

describe('the architectures', () => {
  test.each(Object.entries(published))('%s has its published number of parameters', (_, [json, parameters, means]) => {
    const config = parseLlamaConfig(json, 'config.json');
    expect(parameterCount(config)).toBe(parameters);
    expect(config).toMatchObject(means);
    expect(architectureOf(json, 'config.json')).toBe((json.architectures as string[])[0]);
  });

  test('the pruned shapes of Llama Guard 3 1B are as good as any', () => {
    const [json] = published['Llama-Guard-3-1B']!;
    const config = parseLlamaConfig({ ...json, num_hidden_layers: 12, intermediate_size: 6400 }, 'config.json');
    expect(config).toMatchObject({ numHiddenLayers: 12, intermediateSize: 6400, headDim: 64 });
    expect(expectedTensors(config).get('model.layers.11.mlp.down_proj.weight')).toEqual([2048, 6400]);
  });

  test.each<[ArchitectureName, Record<string, unknown>]>([
    [
      'LlamaForCausalLM',
      { numKeyValueHeads: 64, headDim: 2, maxPositionEmbeddings: 2048, bosTokenId: 1, eosTokenIds: [2] },
    ],
    [
      'MistralForCausalLM',
      {
        numKeyValueHeads: 8,
        headDim: 2,
        maxPositionEmbeddings: 131_072,
        bosTokenId: 1,
        eosTokenIds: [2],
        slidingWindows: [4096, 4096],
      },
    ],
    [
      'Qwen2ForCausalLM',
      { numKeyValueHeads: 32, headDim: 2, maxPositionEmbeddings: 32_768, bosTokenId: null, eosTokenIds: [] },
    ],
    [
      'Qwen3ForCausalLM',
      { numKeyValueHeads: 32, headDim: 128, maxPositionEmbeddings: 32_768, bosTokenId: null, eosTokenIds: [] },
    ],
  ])("%s takes transformers' defaults for what is absent", (name, defaults) => {
    const config = parseLlamaConfig(
      {
        model_type: architectures[name].modelType,
        vocab_size: 300,
        hidden_size: 128,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 64,
      },
      'config.json',
    );
    expect(config).toMatchObject({ ...defaults, rmsNormEpsilon: 1e-6, ropeTheta: 10_000, tieWordEmbeddings: false });
    expect(config.ropeScaling).toBeUndefined();
    expect(config.slidingWindows).toEqual(defaults.slidingWindows);
  });

  test('null is not absent: as many key heads as query heads, no window', () => {
    const mistral = { architectures: ['MistralForCausalLM'], model_type: 'mistral' };
    const config = parse({ ...mistral, num_key_value_heads: null, sliding_window: null });
    expect(config.numKeyValueHeads).toBe(4);
    expect(config.slidingWindows).toBeUndefined();
  });

  test.each<[string, Record<string, unknown>, LlamaConfig['slidingWindows']]>([
    ['are off unless they are used', { use_sliding_window: false, sliding_window: 9 }, undefined],
    ['begin after max_window_layers', { use_sliding_window: true, sliding_window: 9, max_window_layers: 1 }, [null, 9]],
    ['begin after 28 layers where nothing is said', { use_sliding_window: true, sliding_window: 9 }, undefined],
    ['have a width of 4096 where nothing is said', { use_sliding_window: true, max_window_layers: 0 }, [4096, 4096]],
    [
      'are nowhere without a width',
      { use_sliding_window: true, max_window_layers: 0, sliding_window: null },
      undefined,
    ],
    [
      'are where layer_types says, whatever max_window_layers does',
      {
        use_sliding_window: true,
        sliding_window: 9,
        max_window_layers: 2,
        layer_types: ['sliding_attention', 'full_attention'],
      },
      [9, null],
    ],
  ])('windows of a Qwen %s', (_, fields, windows) => {
    for (const name of ['Qwen2ForCausalLM', 'Qwen3ForCausalLM'] as const) {
      const own = { architectures: [name], model_type: architectures[name].modelType };
      expect(parse({ ...own, ...fields }).slidingWindows).toEqual(windows);
    }
  });

  test.each<[string, Record<string, unknown>, RegExp]>([
    [
      'layers that slide without a window',
      { layer_types: ['full_attention', 'sliding_attention'] },
      /use_sliding_window/,
    ],
    [
      'layers that slide in a window of null',
      { layer_types: ['full_attention', 'sliding_attention'], use_sliding_window: true, sliding_window: null },
      /layer_types.*sliding_window/,
    ],
    ['layers of another kind', { layer_types: ['full_attention', 'chunked_attention'] }, /'layer_types\.1'.*chunked/],
    ['too few layers', { layer_types: ['full_attention'] }, /'layer_types'.*num_hidden_layers.*2.*1/],
  ])('a Qwen is refused that has %s', (_, fields, message) => {
    const error = errorOf(() => parse({ architectures: ['Qwen2ForCausalLM'], model_type: 'qwen2', ...fields }));
    expect(error.code).toBe('config-invalid');
    expect(error.message).toMatch(message);
  });

  test('biases are in a Llama and a Qwen3 where attention_bias is set, and in every Qwen2 but for the output', () => {
    const biases = (fields: Record<string, unknown>) =>
      [...expectedTensors(parse({ num_hidden_layers: 1, ...fields })).entries()]
        .filter(([name]) => name.endsWith('.bias'))
        .map(([name, shape]) => `${name.split('.').at(-2)} ${shape}`);
    const three = ['q_proj 24', 'k_proj 12', 'v_proj 12'];
    const [qwen2, qwen3] = (['Qwen2ForCausalLM', 'Qwen3ForCausalLM'] as const).map((name) => ({
      architectures: [name],
      model_type: architectures[name].modelType,
    }));
    expect(biases({ attention_bias: true })).toEqual([...three, 'o_proj 24']);
    expect(biases({ ...qwen3, attention_bias: true })).toEqual([...three, 'o_proj 24']);
    expect(biases({ ...qwen2, attention_bias: false })).toEqual(three);
    expect(biases({ ...qwen3 })).toEqual([]);
    expect(biases({})).toEqual([]);
  });

  test('a config of any of them comes back as it was written', () => {
    fc.assert(
      fc.property(
        fc
          .integer({ min: 1, max: 5 })
          .chain((numHiddenLayers) => traits(numHiddenLayers).map((own) => smallConfig({ numHiddenLayers, ...own }))),
        (config) => {
          expect(parseLlamaConfig(JSON.parse(JSON.stringify(huggingFaceConfig(config))), 'config.json')).toEqual(
            config,
          );
        },
      ),
      { numRuns: 300 },
    );
  });
});

describe('a scaling of RoPE', () => {
  const numbers = ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'];
  const absurd = [undefined, null, 0, -1, 1e300, '8', [], {}, true];
  test.each(numbers.flatMap((field) => absurd.map((value) => [field, value] as const)))('%s of %j', (field, value) => {
    for (const place of ['rope_scaling', 'rope_parameters']) {
      const error = errorOf(() => parse({ rope_scaling: undefined, [place]: { ...llama3, [field]: value } }));
      expect(error.message).toMatch(new RegExp(`^config.json: '${place}\\.${field}' `));
      expect(error.code).toBe('config-invalid');
    }
  });

  test('that is linear needs its factor, which stretches and does not squeeze', () => {
    expect(parse({ rope_scaling: { type: 'linear', factor: 2.5 } }).ropeScaling).toEqual({
      type: 'linear',
      factor: 2.5,
    });
    for (const factor of [undefined, 0.5, '2']) {
      const error = errorOf(() => parse({ rope_scaling: { type: 'linear', factor } }));
      expect(error.message).toContain("'rope_scaling.factor'");
    }
  });

  test.each([3, 'llama3', [llama3], true])('that is %j is no scaling', (rope_scaling) => {
    expect(errorOf(() => parse({ rope_scaling })).message).toContain("'rope_scaling' must be an object");
  });
});

test('whatever the fields hold, the config is right or a ModelError names what is not', () => {
  const whole = huggingFaceConfig(smallConfig({ slidingWindows: [5, null], normalisesHeads: true }));
  const fields = [
    ...Object.keys(whole),
    'rope_parameters',
    'partial_rotary_factor',
    'original_max_position_embeddings',
    'quantization_config',
    '__proto__',
  ];
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.integer({ min: -2, max: 200 }),
    fc.constantFrom(2 ** 53, 1e308, -0, 0.1),
    fc.constantFrom(...architectureNames.map((name) => [name])),
    fc.dictionary(fc.constantFrom(...Object.keys(llama3), 'type', 'rope_theta'), fc.oneof(fc.integer(), fc.string())),
    fc.constant(llama3),
  );
  const change = fc.array(fc.tuple(fc.constantFrom(...fields), value), { minLength: 1, maxLength: 4 });
  const base = fc.constantFrom(...architectureNames).chain((name) => traits(2, [name]).map((own) => smallConfig(own)));
  fc.assert(
    fc.property(base, change, (config, changes) => {
      const json = JSON.parse(JSON.stringify({ ...huggingFaceConfig(config), ...Object.fromEntries(changes) }));
      let parsed: ReturnType<typeof parseLlamaConfig>;
      try {
        parsed = parseLlamaConfig(json, 'config.json');
      } catch (error) {
        expect(error).toBeInstanceOf(ModelError);
        const { code, message } = error as ModelError;
        expect(['config-invalid', 'architecture-unsupported']).toContain(code);
        expect(message).toMatch(/^config\.json: /);
        expect(message).toMatch(new RegExp([...fields, 'supported'].join('|')));
        return;
      }
      expect(parsed.headDim % 2).toBe(0);
      expect(parsed.numAttentionHeads % parsed.numKeyValueHeads).toBe(0);
      expect(parsed.rmsNormEpsilon).toBeGreaterThan(0);
      expect(parsed.ropeTheta).toBeGreaterThan(0);
      expect(parsed.ropeScaling?.factor ?? 1).toBeGreaterThanOrEqual(1);
      for (const tokens of parsed.slidingWindows ?? []) expect(tokens ?? 1).toBeGreaterThanOrEqual(1);
      expect(parsed.slidingWindows?.length ?? parsed.numHiddenLayers).toBe(parsed.numHiddenLayers);
      expect(Number.isSafeInteger(parameterCount(parsed))).toBe(true);
      expect(Object.getPrototypeOf(parsed)).toBe(Object.prototype);
    }),
    { numRuns: 1500 },
  );
});

describe('the tensors a config asks for', () => {
  test('have the names and shapes of Hugging Face', () => {
    const tensors = expectedTensors(smallConfig({ numHiddenLayers: 1 }));
    expect(Object.fromEntries(tensors)).toEqual({
      'model.embed_tokens.weight': [67, 24],
      'model.layers.0.input_layernorm.weight': [24],
      'model.layers.0.self_attn.q_proj.weight': [24, 24],
      'model.layers.0.self_attn.k_proj.weight': [12, 24],
      'model.layers.0.self_attn.v_proj.weight': [12, 24],
      'model.layers.0.self_attn.o_proj.weight': [24, 24],
      'model.layers.0.post_attention_layernorm.weight': [24],
      'model.layers.0.mlp.gate_proj.weight': [40, 24],
      'model.layers.0.mlp.up_proj.weight': [40, 24],
      'model.layers.0.mlp.down_proj.weight': [24, 40],
      'model.norm.weight': [24],
      'lm_head.weight': [67, 24],
    });
  });

  test('have no lm_head where it is tied, and count it once', () => {
    const [untied, tied] = [smallConfig(), smallConfig({ tieWordEmbeddings: true })];
    expect(expectedTensors(tied).has('lm_head.weight')).toBe(false);
    expect(parameterCount(untied) - parameterCount(tied)).toBe(67 * 24);
  });

  test('of Llama 2 7B come to the published 6,738,415,616 parameters', () => {
    const llama2 = smallConfig({
      vocabularySize: 32_000,
      hiddenSize: 4096,
      intermediateSize: 11_008,
      numHiddenLayers: 32,
      numAttentionHeads: 32,
      numKeyValueHeads: 32,
      headDim: 128,
    });
    expect(parameterCount(llama2)).toBe(6_738_415_616);
  });
});
