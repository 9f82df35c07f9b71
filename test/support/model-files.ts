import { writeFile } from 'node:fs/promises';
import type { HuggingFaceConfig } from '../../bench/make-model/config.ts';
import { type FolderOptions, writeModelFolder as makeFolder, modelWeights } from '../../bench/make-model/index.ts';
import { encode } from '../../bench/make-model/weights.ts';
import { type Architecture, type ArchitectureName, architectures } from '../../engine/architectures.ts';
import type { LlamaConfig } from '../../engine/config.ts';
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import type { StoredDType } from '../../engine/safetensors/header.ts';
import { standardNormal } from '../../kernels/random.ts';
import { architectureFor } from './family.ts';

/** A tensor to write: numbers, which are rounded to a float dtype, or bytes as they are. */
export interface TensorData {
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  readonly data: Float32Array | Uint8Array;
}

export interface EncodeOptions {
  readonly metadata?: Readonly<Record<string, string>>;
}

/** A whole safetensors file, its tensors in the order given, its header padded to 8 bytes as the reference does. */
export function encodeSafetensors(
  tensors: Readonly<Record<string, TensorData>>,
  options: EncodeOptions = {},
): Uint8Array {
  const header: [name: string, entry: unknown][] = [];
  if (options.metadata) header.push(['__metadata__', options.metadata]);
  const parts: Uint8Array[] = [];
  let end = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    const bytes = data instanceof Uint8Array ? data : encodeFloats(data, dtype as FloatDType);
    header.push([name, { dtype, shape, data_offsets: [end, end + bytes.length] }]);
    parts.push(bytes);
    end += bytes.length;
  }
  return joinSafetensors(Object.fromEntries(header), parts);
}

/** The bytes of a file from its header, right or wrong: a JSON text as it is, anything else as JSON. */
export function joinSafetensors(header: unknown, data: readonly Uint8Array[]): Uint8Array {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  const padding = Buffer.alloc((8 - (text.length % 8)) % 8, ' ');
  length.writeBigUInt64LE(BigInt(text.length + padding.length));
  return new Uint8Array(Buffer.concat([length, text, padding, ...data]));
}

export async function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorData>>,
  options: EncodeOptions = {},
): Promise<void> {
  await writeFile(path, encodeSafetensors(tensors, options));
}

/** Little-endian bytes of `values`, rounded to nearest, ties to even. */
export const encodeFloats = (values: Float32Array, dtype: FloatDType): Uint8Array =>
  new Uint8Array(encode(values, dtype).buffer);

/** `count` numbers of a normal distribution (Box-Muller). */
export function normals(count: number, random: () => number, mean = 0, deviation = 1): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    values[i] = mean + deviation * standardNormal(random);
  }
  return values;
}

/** A model that is computed in no time, with grouped key and value heads. */
export function smallConfig(overrides: Partial<LlamaConfig> = {}): LlamaConfig {
  return {
    vocabularySize: 67,
    hiddenSize: 24,
    intermediateSize: 40,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 6,
    maxPositionEmbeddings: 128,
    rmsNormEpsilon: 1e-5,
    ropeTheta: 10_000,
    tieWordEmbeddings: false,
    bosTokenId: 1,
    eosTokenIds: [2],
    ...overrides,
  };
}

/** `config` as Hugging Face writes it. */
export function huggingFaceConfig(
  config: LlamaConfig,
  name: ArchitectureName = architectureFor(config),
): HuggingFaceConfig {
  const { eosTokenIds, slidingWindows } = config;
  const [eos = null, ...others] = eosTokenIds;
  const { windows }: Architecture = architectures[name];
  const window = slidingWindows?.find((tokens) => tokens !== null) ?? null;
  return {
    architectures: [name],
    model_type: architectures[name].modelType,
    hidden_act: 'silu',
    attention_bias: config.attentionBias === 'all',
    mlp_bias: false,
    rope_scaling: huggingFaceScaling(config.ropeScaling),
    ...(windows === 'none' ? {} : { sliding_window: window }),
    ...(windows === 'by layer'
      ? {
          use_sliding_window: window !== null,
          max_window_layers: config.numHiddenLayers,
          layer_types: (slidingWindows ?? new Array(config.numHiddenLayers).fill(null)).map((tokens) =>
            tokens === null ? 'full_attention' : 'sliding_attention',
          ),
        }
      : {}),
    vocab_size: config.vocabularySize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numHiddenLayers,
    num_attention_heads: config.numAttentionHeads,
    num_key_value_heads: config.numKeyValueHeads,
    head_dim: config.headDim,
    max_position_embeddings: config.maxPositionEmbeddings,
    rms_norm_eps: config.rmsNormEpsilon,
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tieWordEmbeddings,
    bos_token_id: config.bosTokenId,
    eos_token_id: others.length > 0 ? eosTokenIds : eos,
  };
}

function huggingFaceScaling(scaling: LlamaConfig['ropeScaling']): Record<string, unknown> | null {
  if (scaling?.type !== 'llama3') return scaling ? { rope_type: scaling.type, factor: scaling.factor } : null;
  return {
    rope_type: scaling.type,
    factor: scaling.factor,
    low_freq_factor: scaling.lowFrequencyFactor,
    high_freq_factor: scaling.highFrequencyFactor,
    original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
  };
}

/** The random weights of `writeModelFolder`, already rounded to `dtype`. */
export const randomWeights = (config: LlamaConfig, seed: number, dtype: FloatDType): Map<string, Float32Array> =>
  modelWeights(huggingFaceConfig(config), { seed, dtype });

/**
 * Writes `config.json` and random weights into `folder`, made if it is not there.
 *
 * @param options F16 in one file by default
 * @returns the weights as stored, by tensor name
 */
export async function writeModelFolder(
  folder: string,
  config: LlamaConfig,
  { dtype = 'F16', ...options }: FolderOptions = {},
): Promise<Map<string, Float32Array>> {
  const json = huggingFaceConfig(config);
  await makeFolder(folder, json, { dtype, ...options });
  return modelWeights(json, { dtype, ...options });
}
