/** What an architecture of the Llama family does otherwise than Llama 2. The forward pass is the same for all. */
export interface Architecture {
  /** `model_type` in its config.json. */
  readonly modelType: string;
  /**
   * What transformers' configuration class takes for fields that are absent; where one is absent here too, it follows
   * from other fields. All agree in `rms_norm_eps` 1e-6, `rope_theta` 10,000 and `tie_word_embeddings` false.
   */
  readonly defaults: {
    readonly num_key_value_heads?: number;
    readonly head_dim?: number;
    readonly max_position_embeddings: number;
    readonly sliding_window?: number;
    readonly max_window_layers?: number;
    readonly bos_token_id: number | null;
    readonly eos_token_id: number | null;
  };
  /**
   * Which projections of attention add a bias: none, those of queries, keys and values, or, where `attention_bias` is
   * set, all four.
   */
  readonly attentionBias: 'none' | 'queryKeyValue' | 'as attention_bias says';
  /** Whether each query and key head is RMS-normalised before RoPE turns it. */
  readonly normalisesHeads: boolean;
  /**
   * Which layers see a window of `sliding_window` tokens: none, all, or those that `use_sliding_window` with
   * `max_window_layers` or `layer_types` names.
   */
  readonly windows: 'none' | 'every layer' | 'by layer';
}

/** By their names in config.json's `architectures`; read beside the sources of transformers 4.57 and 5.18. */
export const architectures = {
  /** Llama 2 to 3.2: Llama Guard 1, 2 and 3. */
  LlamaForCausalLM: {
    modelType: 'llama',
    defaults: { max_position_embeddings: 2048, bos_token_id: 1, eos_token_id: 2 },
    attentionBias: 'as attention_bias says',
    normalisesHeads: false,
    windows: 'none',
  },
  /** arXiv 2310.06825: WildGuard, MD-Judge. */
  MistralForCausalLM: {
    modelType: 'mistral',
    defaults: {
      num_key_value_heads: 8,
      max_position_embeddings: 131_072,
      sliding_window: 4096,
      bos_token_id: 1,
      eos_token_id: 2,
    },
    attentionBias: 'none',
    normalisesHeads: false,
    windows: 'every layer',
  },
  /** arXiv 2412.15115: Qwen2 and Qwen2.5. */
  Qwen2ForCausalLM: {
    modelType: 'qwen2',
    defaults: {
      num_key_value_heads: 32,
      max_position_embeddings: 32_768,
      sliding_window: 4096,
      max_window_layers: 28,
      bos_token_id: null,
      eos_token_id: null,
    },
    attentionBias: 'queryKeyValue',
    normalisesHeads: false,
    windows: 'by layer',
  },
  /** arXiv 2505.09388: Qwen3Guard-Gen. */
  Qwen3ForCausalLM: {
    modelType: 'qwen3',
    defaults: {
      num_key_value_heads: 32,
      head_dim: 128,
      max_position_embeddings: 32_768,
      sliding_window: 4096,
      max_window_layers: 28,
      bos_token_id: null,
      eos_token_id: null,
    },
    attentionBias: 'as attention_bias says',
    normalisesHeads: true,
    windows: 'by layer',
  },
} as const satisfies Record<string, Architecture>;

export type ArchitectureName = keyof typeof architectures;
