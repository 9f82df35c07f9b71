import type { HuggingFaceConfig } from './config.ts';
import type { Role } from './weights.ts';

/** A tensor of a model as published: a projection is `(outputs, inputs)`. */
export interface ModelTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly role: Role;
}

/** Which projections have a bias. Written from transformers' modeling files; the engine has its own account. */
function hasBias({ model_type: type, attention_bias: attention, mlp_bias: mlp }: HuggingFaceConfig, module: string) {
  if (type === 'qwen2') return /[qkv]_proj$/.test(module);
  if (module.startsWith('mlp.')) return type === 'llama' && mlp === true;
  return type !== 'mistral' && attention === true;
}

/** The head counts and widths of a configuration, with transformers' defaults. */
export function headsOf({
  hidden_size: hiddenSize,
  num_attention_heads: queryHeads,
  num_key_value_heads: keyValueHeads = queryHeads,
  head_dim: headDim = hiddenSize / queryHeads,
}: HuggingFaceConfig): { readonly queryHeads: number; readonly keyValueHeads: number; readonly headDim: number } {
  return { queryHeads, keyValueHeads, headDim };
}

/** The projections of a layer by their module's name below it, `(outputs, inputs)`. */
export function projectionsOf(config: HuggingFaceConfig): Readonly<Record<string, readonly [number, number]>> {
  const { hidden_size: hidden, intermediate_size: intermediate } = config;
  const { queryHeads, keyValueHeads, headDim } = headsOf(config);
  return {
    'self_attn.q_proj': [queryHeads * headDim, hidden],
    'self_attn.k_proj': [keyValueHeads * headDim, hidden],
    'self_attn.v_proj': [keyValueHeads * headDim, hidden],
    'self_attn.o_proj': [hidden, queryHeads * headDim],
    'mlp.gate_proj': [intermediate, hidden],
    'mlp.up_proj': [intermediate, hidden],
    'mlp.down_proj': [hidden, intermediate],
  };
}

/** Every tensor of a model, in the order of its modules. */
export function tensorsOf(config: HuggingFaceConfig): ModelTensor[] {
  const { vocab_size: vocabulary, hidden_size: hidden } = config;
  const { headDim } = headsOf(config);
  const embedding: ModelTensor = {
    name: 'model.embed_tokens.weight',
    shape: [vocabulary, hidden],
    // Tied, it is a projection too: logits stay near 1.
    role: config.tie_word_embeddings ? 'projection' : 'embedding',
  };
  const norm = (name: string, width: number): ModelTensor => ({ name: `${name}.weight`, shape: [width], role: 'norm' });

  const tensors = [embedding];
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const prefix = `model.layers.${layer}`;
    for (const [module, shape] of Object.entries(projectionsOf(config))) {
      tensors.push({ name: `${prefix}.${module}.weight`, shape, role: 'projection' });
      if (hasBias(config, module)) {
        tensors.push({ name: `${prefix}.${module}.bias`, shape: [shape[0]], role: 'bias' });
      }
    }
    if (config.model_type === 'qwen3') {
      tensors.push(norm(`${prefix}.self_attn.q_norm`, headDim), norm(`${prefix}.self_attn.k_norm`, headDim));
    }
    tensors.push(norm(`${prefix}.input_layernorm`, hidden), norm(`${prefix}.post_attention_layernorm`, hidden));
  }
  tensors.push(norm('model.norm', hidden));
  if (!config.tie_word_embeddings) {
    tensors.push({ name: 'lm_head.weight', shape: [vocabulary, hidden], role: 'projection' });
  }
  return tensors;
}
