import type { FloatDType } from '../../engine/safetensors/convert.ts';

/** What decides which tensors a model has; by transformers' `model_type`. */
export type ModelType = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

/** A `config.json`: the fields that shapes follow from, and whatever else the published file says. */
export interface HuggingFaceConfig {
  readonly model_type: ModelType;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** As many as there are query heads where it is not there. */
  readonly num_key_value_heads?: number;
  /** `hidden_size / num_attention_heads` where it is not there. */
  readonly head_dim?: number;
  /** False where it is not there. */
  readonly tie_word_embeddings?: boolean;
  /** Whether the projections of attention have biases, where the architecture leaves it open. */
  readonly attention_bias?: boolean;
  /** Whether those of the MLP have, in Llama. */
  readonly mlp_bias?: boolean;
  readonly torch_dtype?: TorchDType;
  readonly bos_token_id: number | null;
  readonly eos_token_id: number | readonly number[] | null;
  readonly [field: string]: unknown;
}

/** What PyTorch calls the dtypes that weights are published in. */
export const torchDTypes = { BF16: 'bfloat16', F16: 'float16', F32: 'float32' } as const satisfies Record<
  FloatDType,
  string
>;
export type TorchDType = (typeof torchDTypes)[FloatDType];

/** The dtype that `config.json` names; f32 where it names none, as in transformers. */
export function storedDType({ torch_dtype: named = 'float32' }: HuggingFaceConfig): FloatDType {
  const found = Object.entries(torchDTypes).find(([, name]) => name === named);
  if (!found)
    throw new RangeError(`'torch_dtype' must be one of ${Object.values(torchDTypes).join(', ')}, not ${named}.`);
  return found[0] as FloatDType;
}

/** A JSON file as transformers writes it: keys sorted, two spaces a level, a line feed at the end. */
export const jsonText = (value: unknown): string =>
  `${JSON.stringify(
    value,
    (_, inner: unknown) =>
      typeof inner === 'object' && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
        : inner,
    2,
  )}\n`;
