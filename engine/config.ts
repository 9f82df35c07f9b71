import { z } from 'zod';
import { ModelError } from './errors.ts';
import { quote } from './json.ts';

/** The sizes and constants of a Llama-2-family model: what `config.json` of a Hugging Face model folder says. */
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
  readonly bosTokenId: number;
  /** Each of them ends a completion. */
  readonly eosTokenIds: readonly number[];
}

const supportedArchitecture = 'LlamaForCausalLM';

// The caps are far above any model known; they keep a hostile file from asking for endless work.
const whole = (min: number, max: number) => {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
};
const positive = (max: number) => {
  const error = `must be a number above 0 and at most ${max}`;
  return z.number({ error }).positive({ error }).max(max, { error });
};
const tokenId = whole(0, 2 ** 24 - 1);
const flag = z.boolean({ error: 'must be true or false' }).nullish();
const text = z.string({ error: 'must be a string' }).nullish();
const theta = positive(1e12).nullish();
const object = { error: 'must be an object' };

/** What decides whether this engine can compute the model at all. */
const kindSchema = z.object(
  {
    architectures: z.array(z.string(), { error: 'must be a list of strings' }).nullish(),
    model_type: text,
    hidden_act: text,
    attention_bias: flag,
    mlp_bias: flag,
    quantization_config: z.unknown().optional(),
    rope_scaling: z.object({ rope_type: text, type: text }, object).nullish(),
    rope_parameters: z.object({ rope_type: text, type: text }, object).nullish(),
    partial_rotary_factor: z.number({ error: 'must be a number' }).nullish(),
  },
  { error: 'must be a JSON object' },
);

/** Defaults are those of transformers' `LlamaConfig`; sizes that decide the weights' shapes have none here. */
const sizesSchema = z.object({
  vocab_size: whole(1, 2 ** 24),
  hidden_size: whole(1, 2 ** 17),
  intermediate_size: whole(1, 2 ** 20),
  num_hidden_layers: whole(1, 1024),
  num_attention_heads: whole(1, 4096),
  num_key_value_heads: whole(1, 4096).nullish(),
  head_dim: whole(2, 1024).nullish(),
  max_position_embeddings: whole(1, 2 ** 24).default(2048),
  rms_norm_eps: positive(1).default(1e-6),
  rope_theta: theta,
  rope_parameters: z.object({ rope_theta: theta }).nullish(),
  tie_word_embeddings: flag,
  bos_token_id: tokenId.default(1),
  eos_token_id: z
    .union([tokenId, z.array(tokenId)], { error: 'must be a token id or a list of them' })
    .nullable()
    .default(2),
});

/**
 * Reads the `config.json` of a Hugging Face model folder.
 *
 * @param json what `JSON.parse` made of the file
 * @param source what messages call the file
 * @throws ModelError `architecture-unsupported` for a model that is well-formed but that this engine would compute
 *   wrongly; `config-invalid` for numbers that describe no model. Both name the file and the field.
 */
export function parseLlamaConfig(json: unknown, source: string): LlamaConfig {
  checkKind(validate(kindSchema, json, source), source);
  const sizes = validate(sizesSchema, json, source);
  const { hidden_size: hiddenSize, num_attention_heads: numAttentionHeads, vocab_size: vocabularySize } = sizes;
  const numKeyValueHeads = sizes.num_key_value_heads ?? numAttentionHeads;
  const invalid = (message: string) => new ModelError('config-invalid', `${source}: ${message}`);

  const headDim = sizes.head_dim ?? hiddenSize / numAttentionHeads;
  if (!Number.isInteger(headDim)) {
    throw invalid(
      `without 'head_dim', 'hidden_size' must be a multiple of 'num_attention_heads', but is ${hiddenSize} for ` +
        `${numAttentionHeads} heads.`,
    );
  }
  if (headDim % 2 !== 0) throw invalid(`a head's width must be even for RoPE, but 'head_dim' comes to ${headDim}.`);
  if (numAttentionHeads % numKeyValueHeads !== 0) {
    throw invalid(
      `'num_attention_heads' must be a multiple of 'num_key_value_heads', but they are ${numAttentionHeads} and ` +
        `${numKeyValueHeads}.`,
    );
  }
  const [theta, newTheta] = [sizes.rope_theta, sizes.rope_parameters?.rope_theta];
  if (typeof theta === 'number' && typeof newTheta === 'number' && theta !== newTheta) {
    throw invalid(`'rope_theta' is ${theta} but 'rope_parameters.rope_theta' is ${newTheta}; they must agree.`);
  }
  const eosTokenIds = [sizes.eos_token_id ?? []].flat();
  for (const id of [sizes.bos_token_id, ...eosTokenIds]) {
    if (id >= vocabularySize) throw invalid(`token id ${id} must be below 'vocab_size', which is ${vocabularySize}.`);
  }
  return {
    vocabularySize,
    hiddenSize,
    intermediateSize: sizes.intermediate_size,
    numHiddenLayers: sizes.num_hidden_layers,
    numAttentionHeads,
    numKeyValueHeads,
    headDim,
    maxPositionEmbeddings: sizes.max_position_embeddings,
    rmsNormEpsilon: sizes.rms_norm_eps,
    ropeTheta: newTheta ?? theta ?? 10_000,
    tieWordEmbeddings: sizes.tie_word_embeddings ?? false,
    bosTokenId: sizes.bos_token_id,
    eosTokenIds,
  };
}

function checkKind(kind: z.infer<typeof kindSchema>, source: string): void {
  const unsupported = (message: string) => new ModelError('architecture-unsupported', `${source}: ${message}`);
  const { architectures, model_type: type } = kind;
  const named = architectures ? architectures.includes(supportedArchitecture) : type === 'llama';
  if (!named || (type ?? 'llama') !== 'llama') {
    throw unsupported(
      `only ${supportedArchitecture} (model_type 'llama') is supported, but this is ` +
        `${quote(architectures ?? 'an unnamed architecture')} of model_type ${quote(type)}.`,
    );
  }
  if ((kind.hidden_act ?? 'silu') !== 'silu') {
    throw unsupported(`'hidden_act' must be 'silu', but is ${quote(kind.hidden_act)}.`);
  }
  for (const field of ['attention_bias', 'mlp_bias'] as const) {
    if (kind[field]) throw unsupported(`'${field}' must be false: projections with a bias are not supported.`);
  }
  if (kind.quantization_config != null) {
    throw unsupported(
      "'quantization_config' must be absent: use the unquantized model; the engine quantizes by itself.",
    );
  }
  // A `rope_scaling` that names no type scales somehow; `rope_parameters` without one are the plain ones.
  const { rope_scaling: scaling, rope_parameters: rope } = kind;
  const scalingType = scaling ? (scaling.rope_type ?? scaling.type) : 'default';
  const ropeType = rope ? (rope.rope_type ?? rope.type ?? 'default') : 'default';
  if (scalingType !== 'default' || ropeType !== 'default') {
    const [field, came] = scalingType !== 'default' ? ['rope_scaling', scalingType] : ['rope_parameters', ropeType];
    throw unsupported(`'${field}' must be absent or of type 'default', but is of type ${quote(came)}.`);
  }
  if ((kind.partial_rotary_factor ?? 1) !== 1) {
    throw unsupported(`'partial_rotary_factor' must be 1, but is ${kind.partial_rotary_factor}.`);
  }
}

function validate<Schema extends z.ZodType>(schema: Schema, json: unknown, source: string): z.infer<Schema> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  // A field that is wrong in several ways is told of once.
  const problems = new Map<string, string>();
  for (const { path, message } of result.error.issues) {
    const field = path.join('.');
    const subject = field ? `'${field}'` : 'it';
    if (!problems.has(field)) problems.set(field, `${subject} ${message}, but is ${quote(valueAt(json, path))}`);
  }
  throw new ModelError('config-invalid', `${source}: ${[...problems.values()].join('; ')}.`);
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], json);
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
