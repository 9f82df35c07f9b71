/**
 * Published models by the names of `--like`: their `config.json`, field by field. Those of gated repositories (Llama
 * Guard) and of WildGuard and MD-Judge were not read at the source: they are their base models' files with what the
 * model's card says otherwise.
 */
import type { HuggingFaceConfig } from './config.ts';
import { tinyModels } from './tiny.ts';
import type { TokenizerKind } from './tokenizer-files.ts';

/** A model whose folder can be imitated. */
export interface CatalogueModel {
  /** Its name on the hub where it is published, else what it is. */
  readonly origin: string;
  readonly config: HuggingFaceConfig;
  readonly generationConfig: Readonly<Record<string, unknown>>;
  /** Files that its weights come in. */
  readonly shards: number;
  readonly tokenizer: TokenizerKind;
  /** The chat template of its shape, in templates/; absent where it has none. */
  readonly template?: string;
  /** Whether the file repeats the embeddings as `lm_head.weight` although they are tied. */
  readonly storesTiedHead?: boolean;
}

const llama = {
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  attention_dropout: 0,
  hidden_act: 'silu',
  initializer_range: 0.02,
  model_type: 'llama',
  pretraining_tp: 1,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  use_cache: true,
} as const;

const llamaGuard1: HuggingFaceConfig = {
  ...llama,
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_size: 4096,
  intermediate_size: 11_008,
  max_position_embeddings: 2048,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 32,
  rope_scaling: null,
  rope_theta: 10_000,
  transformers_version: '4.36.0',
  vocab_size: 32_000,
};

const llama3: HuggingFaceConfig = {
  ...llama,
  bos_token_id: 128_000,
  eos_token_id: 128_001,
  hidden_size: 4096,
  intermediate_size: 14_336,
  max_position_embeddings: 8192,
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rope_scaling: null,
  rope_theta: 500_000,
  transformers_version: '4.40.0',
  vocab_size: 128_256,
};

/** The scaling of Llama 3.1 and 3.2, which differ in the factor. */
const llama3Scaling = (factor: number) => ({
  factor,
  high_freq_factor: 4,
  low_freq_factor: 1,
  original_max_position_embeddings: 8192,
  rope_type: 'llama3',
});

const llama31: HuggingFaceConfig = {
  ...llama3,
  eos_token_id: [128_001, 128_008, 128_009],
  max_position_embeddings: 131_072,
  mlp_bias: false,
  rope_scaling: llama3Scaling(8),
  transformers_version: '4.43.0',
};

const llama32: HuggingFaceConfig = {
  ...llama31,
  head_dim: 64,
  hidden_size: 2048,
  intermediate_size: 8192,
  num_hidden_layers: 16,
  rope_scaling: llama3Scaling(32),
  tie_word_embeddings: true,
  transformers_version: '4.45.0',
};

const mistral: HuggingFaceConfig = {
  architectures: ['MistralForCausalLM'],
  bos_token_id: 1,
  eos_token_id: 2,
  hidden_act: 'silu',
  hidden_size: 4096,
  initializer_range: 0.02,
  intermediate_size: 14_336,
  max_position_embeddings: 32_768,
  model_type: 'mistral',
  num_attention_heads: 32,
  num_hidden_layers: 32,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  sliding_window: 4096,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  transformers_version: '4.36.0',
  use_cache: true,
  vocab_size: 32_000,
};

const qwen3: HuggingFaceConfig = {
  architectures: ['Qwen3ForCausalLM'],
  attention_bias: false,
  attention_dropout: 0,
  bos_token_id: 151_643,
  eos_token_id: 151_645,
  head_dim: 128,
  hidden_act: 'silu',
  hidden_size: 1024,
  initializer_range: 0.02,
  intermediate_size: 3072,
  max_position_embeddings: 32_768,
  max_window_layers: 28,
  model_type: 'qwen3',
  num_attention_heads: 16,
  num_hidden_layers: 28,
  num_key_value_heads: 8,
  rms_norm_eps: 1e-6,
  rope_scaling: null,
  rope_theta: 1_000_000,
  sliding_window: null,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  transformers_version: '4.51.0',
  use_cache: true,
  use_sliding_window: false,
  vocab_size: 151_936,
};

const qwen25: HuggingFaceConfig = {
  architectures: ['Qwen2ForCausalLM'],
  attention_dropout: 0,
  bos_token_id: 151_643,
  eos_token_id: 151_645,
  hidden_act: 'silu',
  hidden_size: 896,
  initializer_range: 0.02,
  intermediate_size: 4864,
  max_position_embeddings: 32_768,
  max_window_layers: 21,
  model_type: 'qwen2',
  num_attention_heads: 14,
  num_hidden_layers: 24,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  sliding_window: 32_768,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  transformers_version: '4.43.1',
  use_cache: true,
  use_sliding_window: false,
  vocab_size: 151_936,
};

/** A generation configuration that says no more than the model's. */
const fromConfig = ({ bos_token_id, eos_token_id, transformers_version }: HuggingFaceConfig) => ({
  _from_model_config: true,
  bos_token_id,
  eos_token_id,
  transformers_version,
});

/** Two tokens end a completion, of which config.json names one. */
const qwenGeneration = ({ bos_token_id, eos_token_id, transformers_version }: HuggingFaceConfig) => ({
  bos_token_id,
  do_sample: true,
  eos_token_id: [eos_token_id, bos_token_id],
  pad_token_id: bos_token_id,
  transformers_version,
});

export const catalogue: Readonly<Record<string, CatalogueModel>> = {
  'llama-guard-7b': {
    origin: 'meta-llama/LlamaGuard-7b',
    config: llamaGuard1,
    generationConfig: fromConfig(llamaGuard1),
    shards: 3,
    tokenizer: 'sentencepiece',
    template: 'llama-guard-1',
  },
  'llama-guard-2-8b': {
    origin: 'meta-llama/Meta-Llama-Guard-2-8B',
    config: llama3,
    generationConfig: fromConfig(llama3),
    shards: 4,
    tokenizer: 'llama-3',
    template: 'llama-guard-2',
  },
  'llama-guard-3-8b': {
    origin: 'meta-llama/Llama-Guard-3-8B',
    config: llama31,
    generationConfig: fromConfig(llama31),
    shards: 4,
    tokenizer: 'llama-3',
    template: 'llama-guard-3',
  },
  'llama-guard-3-1b': {
    origin: 'meta-llama/Llama-Guard-3-1B',
    config: llama32,
    generationConfig: fromConfig(llama32),
    shards: 1,
    tokenizer: 'llama-3',
    template: 'llama-guard-3-parts',
  },
  'llama-guard-3-1b-pruned': {
    origin: 'the layers of meta-llama/Llama-Guard-3-1B-INT4, with a whole head',
    config: { ...llama32, intermediate_size: 6400, num_hidden_layers: 12 },
    generationConfig: fromConfig(llama32),
    shards: 1,
    tokenizer: 'llama-3',
    template: 'llama-guard-3-parts',
  },
  wildguard: {
    origin: 'allenai/wildguard, on Mistral 7B v0.3',
    config: { ...mistral, rope_theta: 1_000_000, sliding_window: null, vocab_size: 32_768 },
    generationConfig: fromConfig(mistral),
    shards: 3,
    tokenizer: 'sentencepiece',
  },
  'md-judge-v0.1': {
    origin: 'OpenSafetyLab/MD-Judge-v0.1, on Mistral 7B v0.1',
    config: mistral,
    generationConfig: fromConfig(mistral),
    shards: 3,
    tokenizer: 'sentencepiece',
  },
  'qwen3guard-gen-0.6b': {
    origin: 'Qwen/Qwen3Guard-Gen-0.6B',
    config: qwen3,
    generationConfig: qwenGeneration(qwen3),
    shards: 1,
    tokenizer: 'qwen',
    template: 'qwen3guard',
    storesTiedHead: true,
  },
  'qwen3guard-gen-4b': {
    origin: 'Qwen/Qwen3Guard-Gen-4B',
    config: {
      ...qwen3,
      hidden_size: 2560,
      intermediate_size: 9728,
      max_window_layers: 36,
      num_attention_heads: 32,
      num_hidden_layers: 36,
    },
    generationConfig: qwenGeneration(qwen3),
    shards: 2,
    tokenizer: 'qwen',
    template: 'qwen3guard',
  },
  'qwen3guard-gen-8b': {
    origin: 'Qwen/Qwen3Guard-Gen-8B',
    config: {
      ...qwen3,
      hidden_size: 4096,
      intermediate_size: 12_288,
      max_window_layers: 36,
      num_attention_heads: 32,
      num_hidden_layers: 36,
      tie_word_embeddings: false,
    },
    generationConfig: qwenGeneration(qwen3),
    shards: 4,
    tokenizer: 'qwen',
    template: 'qwen3guard',
  },
  'qwen2.5-0.5b': {
    origin: 'Qwen/Qwen2.5-0.5B-Instruct',
    config: qwen25,
    generationConfig: qwenGeneration(qwen25),
    shards: 1,
    tokenizer: 'qwen',
  },
  'llama-768': {
    origin: 'no published model: between the embedded one and 1B, for software adapters',
    config: {
      ...llamaGuard1,
      hidden_size: 768,
      intermediate_size: 2048,
      num_attention_heads: 12,
      num_hidden_layers: 12,
      num_key_value_heads: 12,
      torch_dtype: 'float16',
    },
    generationConfig: fromConfig(llamaGuard1),
    shards: 1,
    tokenizer: 'sentencepiece',
  },
  ...Object.fromEntries(
    Object.entries(tinyModels).map(([name, tiny]) => [
      name,
      {
        origin: 'no published model: an architecture in small, for tests',
        generationConfig: fromConfig(tiny.config),
        shards: 1,
        ...tiny,
      },
    ]),
  ),
};

/** @throws RangeError for a name that is not in the catalogue */
export function lookUp(name: string): CatalogueModel {
  const found = Object.hasOwn(catalogue, name) ? catalogue[name] : undefined;
  if (!found) throw new RangeError(`There is no model '${name}'; there is ${Object.keys(catalogue).join(', ')}.`);
  return found;
}
