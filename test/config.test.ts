import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expectedTensors, parameterCount, parseLlamaConfig } from '../engine/config.ts';
import { ModelError } from '../engine/errors.ts';
import { errorOf, llama3, parse, valid } from './support/config.ts';
import { architectureNames, traits } from './support/family.ts';
import { huggingFaceConfig, smallConfig } from './support/model-files.ts';

function without(...fields: string[]) {
  return parse(Object.fromEntries(fields.map((field) => [field, undefined])));
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
    [
      'an unknown quantised build',
      { quantization_config: { quant_method: 'hqq' } },
      /'quantization_config': gptq, awq.*are read, but 'quant_method' is "hqq"/,
    ],
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
