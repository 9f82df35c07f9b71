import { z } from 'zod';
import { quote } from '../kernels/json.ts';
import type { RopeScaling } from '../kernels/rope-and-cache/index.ts';
import { type Architecture, type ArchitectureName, architectures } from './architectures.ts';
import { flag, invalid, positive, text, unsupported, validate, whole } from './config-fields.ts';
import { ropeOf } from './config-rope.ts';
import { windowsOf } from './config-windows.ts';

/** The sizes and constants of a model of the Llama family: what `config.json` of a Hugging Face model folder says. */
export interface LlamaConfig {
  readonly vocabularySize: number;
  /** Width of the residual stream. */
  readonly hiddenSize: number;
  /** Width of the MLP between `gate_proj` / `up_proj` and `down_proj`. */
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  /** Query heads. */
  readonly numAttentionHeads: number;
  /** Key and value heads, each shared by `numAttentionHeads / numKeyValueHeads` query heads. */
  readonly numKeyValueHeads: number;
  /** Width of one head; even, as RoPE turns pairs of numbers. */
  readonly headDim: number;
  /** Tokens. */
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEpsilon: number;
  /** Base of RoPE's geometric row of frequencies. */
  readonly ropeTheta: number;
  /** Whether `embed_tokens` serves as `lm_head` too. */
  readonly tieWordEmbeddings: boolean;
  /** Begins a text; `null` in models that have no such token. */
  readonly bosTokenId: number | null;
  /** Each of them ends a completion. */
  readonly eosTokenIds: readonly number[];
  // What follows is absent where a model does as Llama 2 does.
  /** How RoPE is stretched for contexts longer than the original. */
  readonly ropeScaling?: RopeScaling;
  /** The projections of attention that add a bias: queries, keys and values, or the output too. */
  readonly attentionBias?: 'queryKeyValue' | 'all';
  /** Whether each query and key head is RMS-normalised, with `rmsNormEpsilon`, before RoPE turns it. */
  readonly normalisesHeads?: boolean;
  /** How many keys a query sees at most, its own among them, by layer; `null` where it sees all before it. */
  readonly slidingWindows?: readonly (number | null)[];
}

const tokenId = whole(0, 2 ** 24 - 1);

/** What decides whether this engine can compute the model at all. */
const kindSchema = z.object(
  {
    architectures: z.array(z.string(), { error: 'must be a list of strings' }).nullish(),
    model_type: text.nullish(),
    hidden_act: text.nullish(),
    mlp_bias: flag.nullish(),
    quantization_config: z.unknown().optional(),
  },
  { error: 'must be a JSON object' },
);

/** Sizes that decide the weights' shapes have to be there, though transformers has defaults for them. */
const sizesSchema = z.object({
  vocab_size: whole(1, 2 ** 24),
  hidden_size: whole(1, 2 ** 17),
  intermediate_size: whole(1, 2 ** 20),
  num_hidden_layers: whole(1, 1024),
  num_attention_heads: whole(1, 4096),
  num_key_value_heads: whole(1, 4096).nullish(),
  head_dim: whole(2, 256).nullish(),
  max_position_embeddings: whole(1, 2 ** 24).optional(),
  rms_norm_eps: positive(1).default(1e-6),
  tie_word_embeddings: flag.nullish(),
  attention_bias: flag.nullish(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId)], { error: 'must be a token id or a list of them' }).nullish(),
});

/**
 * Reads the `config.json` of a Hugging Face model folder. What is absent is as in transformers.
 *
 * @param json what `JSON.parse` made of the file
 * @param source what messages call the file
 * @throws ModelError `architecture-unsupported` for a model that is well-formed but that this engine would compute
 *   wrongly; `config-invalid` for numbers that describe no model. Both name the file and the field.
 */
export function parseLlamaConfig(json: unknown, source: string): LlamaConfig {
  const architecture: Architecture = architectures[architectureOf(json, source)];
  const rope = ropeOf(json, source);
  const sizes = validate(sizesSchema, json, source);
  const { vocab_size: vocabularySize, num_hidden_layers: numHiddenLayers } = sizes;
  const attentionBias = attentionBiasOf(architecture, sizes, source);
  const slidingWindows = windowsOf(architecture, numHiddenLayers, json, source);
  return {
    vocabularySize,
    hiddenSize: sizes.hidden_size,
    intermediateSize: sizes.intermediate_size,
    numHiddenLayers,
    ...headsOf(architecture, sizes, source),
    maxPositionEmbeddings: sizes.max_position_embeddings ?? architecture.defaults.max_position_embeddings,
    rmsNormEpsilon: sizes.rms_norm_eps,
    ...rope,
    tieWordEmbeddings: sizes.tie_word_embeddings ?? false,
    ...tokensOf(architecture, sizes, source),
    ...(attentionBias ? { attentionBias } : {}),
    ...(architecture.normalisesHeads ? { normalisesHeads: true } : {}),
    ...(slidingWindows ? { slidingWindows } : {}),
  };
}

/**
 * Which of the supported architectures a `config.json` is of.
 * @throws ModelError `architecture-unsupported`, `config-invalid`
 */
export function architectureOf(json: unknown, source: string): ArchitectureName {
  const { architectures: listed, model_type: type, ...kind } = validate(kindSchema, json, source);
  const names = Object.keys(architectures) as ArchitectureName[];
  const name = names.find((name) => {
    const { modelType } = architectures[name];
    return (listed?.includes(name) ?? type === modelType) && (type ?? modelType) === modelType;
  });
  if (!name) {
    const supported = names.map((name) => `${name} (model_type '${architectures[name].modelType}')`);
    throw unsupported(
      source,
      `${supported.slice(0, -1).join(', ')} and ${supported.at(-1)} are supported, but this is ` +
        `${quote(listed ?? 'an unnamed architecture')} of model_type ${quote(type)}.`,
    );
  }
  if ((kind.hidden_act ?? 'silu') !== 'silu') {
    throw unsupported(source, `'hidden_act' must be 'silu', but is ${quote(kind.hidden_act)}.`);
  }
  if (kind.mlp_bias) {
    throw unsupported(source, "'mlp_bias' must be false: an MLP whose projections have a bias is not supported.");
  }
  if (kind.quantization_config != null) {
    throw unsupported(
      source,
      "'quantization_config' must be absent: use the unquantized model; the engine quantizes by itself.",
    );
  }
  return name;
}

type Sizes = z.infer<typeof sizesSchema>;

function headsOf({ defaults }: Architecture, sizes: Sizes, source: string) {
  const { hidden_size: hiddenSize, num_attention_heads: numAttentionHeads, num_key_value_heads: given } = sizes;
  const numKeyValueHeads = (given === undefined ? defaults.num_key_value_heads : given) ?? numAttentionHeads;
  const headDim = sizes.head_dim ?? defaults.head_dim ?? hiddenSize / numAttentionHeads;
  if (!Number.isInteger(headDim)) {
    throw invalid(
      source,
      `without 'head_dim', 'hidden_size' must be a multiple of 'num_attention_heads', but is ${hiddenSize} for ` +
        `${numAttentionHeads} heads.`,
    );
  }
  if (headDim % 2 !== 0 || headDim > 256) {
    throw invalid(source, `a head's width must be even for RoPE and at most 256, but 'head_dim' comes to ${headDim}.`);
  }
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw invalid(
      source,
      `'num_attention_heads' must be a multiple of 'num_key_value_heads', but they are ${numAttentionHeads} and ` +
        `${numKeyValueHeads}.`,
    );
  }
  return { numAttentionHeads, numKeyValueHeads, headDim };
}

function tokensOf({ defaults }: Architecture, sizes: Sizes, source: string) {
  const [bos, eos] = (['bos_token_id', 'eos_token_id'] as const).map((field) => {
    const ids = [(sizes[field] === undefined ? defaults[field] : sizes[field]) ?? []].flat();
    const beyond = ids.find((id) => id >= sizes.vocab_size);
    if (beyond === undefined) return ids;
    throw invalid(source, `'${field}' must be below 'vocab_size', which is ${sizes.vocab_size}, but is ${beyond}.`);
  });
  return { bosTokenId: bos![0] ?? null, eosTokenIds: eos! };
}

function attentionBiasOf({ attentionBias, modelType }: Architecture, sizes: Sizes, source: string) {
  if (attentionBias === 'queryKeyValue') return attentionBias;
  if (!sizes.attention_bias) return undefined;
  if (attentionBias === 'as attention_bias says') return 'all';
  throw unsupported(source, `'attention_bias' must be false in a model of model_type '${modelType}'.`);
}

/**
 * The tensors that a model of this `config` consists of, by their Hugging Face names, with their shapes. A projection is
 * `(outputs, inputs)`: `y = W x`.
 */
export function expectedTensors(config: LlamaConfig): Map<string, readonly number[]> {
  const { vocabularySize, hiddenSize, intermediateSize, headDim } = config;
  const queries = config.numAttentionHeads * headDim;
  const keys = config.numKeyValueHeads * headDim;
  const tensors = new Map<string, readonly number[]>();
  tensors.set('model.embed_tokens.weight', [vocabularySize, hiddenSize]);
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const prefix = `model.layers.${layer}`;
    tensors.set(`${prefix}.input_layernorm.weight`, [hiddenSize]);
    tensors.set(`${prefix}.self_attn.q_proj.weight`, [queries, hiddenSize]);
    tensors.set(`${prefix}.self_attn.k_proj.weight`, [keys, hiddenSize]);
    tensors.set(`${prefix}.self_attn.v_proj.weight`, [keys, hiddenSize]);
    tensors.set(`${prefix}.self_attn.o_proj.weight`, [hiddenSize, queries]);
    if (config.attentionBias) {
      tensors.set(`${prefix}.self_attn.q_proj.bias`, [queries]);
      tensors.set(`${prefix}.self_attn.k_proj.bias`, [keys]);
      tensors.set(`${prefix}.self_attn.v_proj.bias`, [keys]);
    }
    if (config.attentionBias === 'all') tensors.set(`${prefix}.self_attn.o_proj.bias`, [hiddenSize]);
    if (config.normalisesHeads) {
      tensors.set(`${prefix}.self_attn.q_norm.weight`, [headDim]);
      tensors.set(`${prefix}.self_attn.k_norm.weight`, [headDim]);
    }
    tensors.set(`${prefix}.post_attention_layernorm.weight`, [hiddenSize]);
    tensors.set(`${prefix}.mlp.gate_proj.weight`, [intermediateSize, hiddenSize]);
    tensors.set(`${prefix}.mlp.up_proj.weight`, [intermediateSize, hiddenSize]);
    tensors.set(`${prefix}.mlp.down_proj.weight`, [hiddenSize, intermediateSize]);
  }
  tensors.set('model.norm.weight', [hiddenSize]);
  if (!config.tieWordEmbeddings) tensors.set('lm_head.weight', [vocabularySize, hiddenSize]);
  return tensors;
}

/** How many numbers the weights hold; a tied `lm_head` counts once. */
export function parameterCount(config: LlamaConfig): number {
  return [...expectedTensors(config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
}
