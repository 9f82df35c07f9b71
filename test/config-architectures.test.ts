import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ArchitectureName, architectures } from '../engine/architectures.ts';
import { architectureOf, expectedTensors, parameterCount, parseLlamaConfig } from '../engine/config.ts';
import type { LlamaConfig } from '../engine/index.ts';
import { errorOf, llama3, parse } from './support/config.ts';
import { traits } from './support/family.ts';
import { huggingFaceConfig, smallConfig } from './support/model-files.ts';

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
