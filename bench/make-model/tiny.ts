/**
 * Each architecture in small: what differs between published models is kept (grouped heads, tied embeddings, biases,
 * norms, windows, scalings), at sizes that plain loops compute at once. Windows and original contexts are so short that
 * a prompt of a few dozen tokens goes past them.
 */
import type { HuggingFaceConfig } from './config.ts';
import type { TokenizerKind } from './tokenizer-files.ts';

interface TinyModel {
  readonly config: HuggingFaceConfig;
  readonly tokenizer: TokenizerKind;
  readonly storesTiedHead?: boolean;
}

const common = {
  hidden_act: 'silu',
  hidden_size: 64,
  initializer_range: 0.02,
  intermediate_size: 96,
  max_position_embeddings: 512,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  num_key_value_heads: 2,
  tie_word_embeddings: false,
  torch_dtype: 'bfloat16',
  use_cache: true,
  vocab_size: 160,
} as const;

const llama2: HuggingFaceConfig = {
  ...common,
  architectures: ['LlamaForCausalLM'],
  attention_bias: false,
  bos_token_id: 1,
  eos_token_id: 2,
  model_type: 'llama',
  num_key_value_heads: 4,
  rms_norm_eps: 1e-5,
  rope_scaling: null,
  rope_theta: 10_000,
  torch_dtype: 'float16',
};

const llama3: HuggingFaceConfig = {
  ...llama2,
  bos_token_id: 150,
  eos_token_id: 151,
  num_key_value_heads: 2,
  rope_theta: 500_000,
  torch_dtype: 'bfloat16',
};

const llama31: HuggingFaceConfig = {
  ...llama3,
  eos_token_id: [151, 158, 159],
  mlp_bias: false,
  // One of the eight frequencies stays, one is interpolated, six are divided.
  rope_scaling: {
    factor: 8,
    high_freq_factor: 4,
    low_freq_factor: 1,
    original_max_position_embeddings: 64,
    rope_type: 'llama3',
  },
};

const mistral: HuggingFaceConfig = {
  ...common,
  architectures: ['MistralForCausalLM'],
  attention_dropout: 0,
  bos_token_id: 1,
  eos_token_id: 2,
  model_type: 'mistral',
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  sliding_window: 16,
};

const qwen = { bos_token_id: 150, eos_token_id: 151, rms_norm_eps: 1e-6, rope_theta: 1_000_000 } as const;

export const tinyModels: Readonly<Record<string, TinyModel>> = {
  'tiny-llama-2': { config: llama2, tokenizer: 'sentencepiece' },
  'tiny-llama-3': { config: llama3, tokenizer: 'llama-3' },
  'tiny-llama-3.1': { config: llama31, tokenizer: 'llama-3' },
  'tiny-llama-3.2': {
    config: {
      ...llama31,
      head_dim: 16,
      num_key_value_heads: 1,
      rope_scaling: { ...(llama31.rope_scaling as object), factor: 32 },
      tie_word_embeddings: true,
    },
    tokenizer: 'llama-3',
  },
  'tiny-mistral-v0.1': { config: mistral, tokenizer: 'sentencepiece' },
  'tiny-mistral-v0.3': {
    config: { ...mistral, rope_theta: 1_000_000, sliding_window: null },
    tokenizer: 'sentencepiece',
  },
  'tiny-qwen2.5': {
    config: {
      ...common,
      ...qwen,
      architectures: ['Qwen2ForCausalLM'],
      attention_dropout: 0,
      hidden_size: 96,
      max_window_layers: 1,
      model_type: 'qwen2',
      num_attention_heads: 6,
      // Not used, as `use_sliding_window` says: the layers attend to everything.
      sliding_window: 16,
      tie_word_embeddings: true,
      torch_dtype: 'float32',
      use_sliding_window: false,
    },
    tokenizer: 'qwen',
  },
  'tiny-qwen3': {
    config: {
      ...common,
      ...qwen,
      architectures: ['Qwen3ForCausalLM'],
      attention_bias: false,
      attention_dropout: 0,
      // Four heads of it are wider than the hidden state.
      head_dim: 32,
      max_window_layers: 2,
      model_type: 'qwen3',
      rope_scaling: null,
      sliding_window: null,
      tie_word_embeddings: true,
      use_sliding_window: false,
    },
    tokenizer: 'qwen',
    storesTiedHead: true,
  },
};
