import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { expectedTensors, parameterCount, parseLlamaConfig } from '../engine/config.ts';
import { ModelError } from '../engine/errors.ts';
import { huggingFaceConfig, smallConfig } from './support/model-files.ts';

const valid = huggingFaceConfig(smallConfig());

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
    const config = parse({ num_key_value_heads: null, head_dim: null, rope_parameters: null, eos_token_id: null });
    expect(config).toMatchObject({ numKeyValueHeads: 4, headDim: 6, eosTokenIds: [] });
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
      { architectures: ['MistralForCausalLM'], model_type: 'mistral' },
      /LlamaForCausalLM.*Mistral/,
    ],
    ['a Llama classifier', { architectures: ['LlamaForSequenceClassification'] }, /SequenceClassification/],
    ['another model type', { model_type: 'gemma' }, /gemma/],
    ['no name at all', { architectures: undefined, model_type: undefined }, /unnamed/],
    ['an activation other than silu', { hidden_act: 'gelu' }, /hidden_act.*gelu/],
    ['attention with a bias', { attention_bias: true }, /attention_bias/],
    ['an MLP with a bias', { mlp_bias: true }, /mlp_bias/],
    ['Llama 3 RoPE', { rope_scaling: { rope_type: 'llama3', factor: 8 } }, /rope_scaling.*llama3/],
    ['linear RoPE, named the old way', { rope_scaling: { type: 'linear', factor: 2 } }, /rope_scaling.*linear/],
    ['an unnamed RoPE scaling', { rope_scaling: { factor: 2 } }, /rope_scaling/],
    ['Llama 3 RoPE as of transformers 5', { rope_parameters: { rope_type: 'llama3' } }, /rope_parameters.*llama3/],
    ['a partial RoPE', { partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
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
    ['a hidden size that no head count divides', { head_dim: undefined, hidden_size: 26 }, /multiple.*26/],
    ['heads that cannot share keys', { num_key_value_heads: 3 }, /num_key_value_heads.*4 and 3/],
    ['more key heads than heads', { num_key_value_heads: 8 }, /num_key_value_heads/],
    ['an odd head', { head_dim: 7 }, /even.*7/],
    ['an odd head by division', { head_dim: undefined, hidden_size: 28 }, /even.*7/],
    ['an end id beyond the vocabulary', { eos_token_id: [2, 67] }, /67/],
    ['a negative start id', { bos_token_id: -1 }, /bos_token_id/],
    ['a start id of null', { bos_token_id: null }, /bos_token_id/],
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

test('whatever the fields hold, the config is right or a ModelError says what is not', () => {
  const field = fc.constantFrom(...Object.keys(valid), 'rope_parameters', 'quantization_config', '__proto__');
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.integer({ min: -2, max: 200 }),
    fc.constantFrom(2 ** 53, 1e308, -0, 0.1),
  );
  const change = fc.array(fc.tuple(field, value), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(change, (changes) => {
      const json = JSON.parse(JSON.stringify({ ...valid, ...Object.fromEntries(changes) }));
      let config: ReturnType<typeof parseLlamaConfig>;
      try {
        config = parseLlamaConfig(json, 'config.json');
      } catch (error) {
        expect(error).toBeInstanceOf(ModelError);
        expect(['config-invalid', 'architecture-unsupported']).toContain((error as ModelError).code);
        return;
      }
      expect(config.headDim % 2).toBe(0);
      expect(config.numAttentionHeads % config.numKeyValueHeads).toBe(0);
      expect(config.rmsNormEpsilon).toBeGreaterThan(0);
      expect(config.ropeTheta).toBeGreaterThan(0);
      expect(Number.isSafeInteger(parameterCount(config))).toBe(true);
      expect(Object.getPrototypeOf(config)).toBe(Object.prototype);
    }),
    { numRuns: 2000 },
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
