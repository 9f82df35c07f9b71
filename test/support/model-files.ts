import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Architecture, type ArchitectureName, architectures } from '../../engine/architectures.ts';
import { expectedTensors, type LlamaConfig } from '../../engine/config.ts';
import { decodeToF16, decodeToF32, type FloatDType } from '../../engine/safetensors/convert.ts';
import type { StoredDType } from '../../engine/safetensors/header.ts';
import { seededRandom, standardNormal } from '../../kernels/random.ts';
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
export function encodeFloats(values: Float32Array, dtype: FloatDType): Uint8Array {
  const f32 = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === 'F32') return f32;
  if (dtype === 'F16') return new Uint8Array(decodeToF16(f32, 'F32').bits.buffer);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return new Uint8Array(Uint16Array.from(bits, (wide) => (wide + 0x7fff + ((wide >>> 16) & 1)) >>> 16).buffer);
}

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
): Record<string, unknown> {
  const { eosTokenIds, slidingWindows } = config;
  const { modelType, windows }: Architecture = architectures[name];
  const window = slidingWindows?.find((tokens) => tokens !== null) ?? null;
  return {
    architectures: [name],
    model_type: modelType,
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
    eos_token_id: eosTokenIds.length === 1 ? eosTokenIds[0] : eosTokenIds,
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

/**
 * Random weights for `config`, already rounded to `dtype`. Their scale keeps activations near 1 through the layers:
 * projections have deviation `1 / sqrt(inputs)`, norms are near 1, embeddings and biases have deviation 1.
 */
export function randomWeights(config: LlamaConfig, seed: number, dtype: FloatDType): Map<string, Float32Array> {
  const random = seededRandom(seed);
  const weights = new Map<string, Float32Array>();
  for (const [name, shape] of expectedTensors(config)) {
    const [rows = 1, columns] = shape;
    let values: Float32Array;
    if (name.endsWith('.bias')) values = normals(rows, random);
    else if (columns === undefined) values = normals(rows, random, 1, 0.1);
    else if (name === 'model.embed_tokens.weight') values = normals(rows * columns, random);
    else values = normals(rows * columns, random, 0, 1 / Math.sqrt(columns));
    weights.set(name, decodeToF32(encodeFloats(values, dtype), dtype));
  }
  return weights;
}

export interface ModelFolderOptions {
  readonly seed?: number;
  readonly dtype?: FloatDType;
  /** 1, the default, writes `model.safetensors`; more write that many shards and their index. */
  readonly shards?: number;
}

/**
 * Writes `config.json` and random weights into `folder`, made if it is not there.
 *
 * @returns the weights as stored, by tensor name
 */
export async function writeModelFolder(
  folder: string,
  config: LlamaConfig,
  options: ModelFolderOptions = {},
): Promise<Map<string, Float32Array>> {
  const { seed = 1, dtype = 'F16', shards = 1 } = options;
  const shapes = expectedTensors(config);
  const weights = randomWeights(config, seed, dtype);
  const tensors = [...weights].map(([name, data]) => [name, { dtype, shape: shapes.get(name)!, data }] as const);
  const metadata = { format: 'pt' };

  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'config.json'), JSON.stringify(huggingFaceConfig(config), undefined, 2));
  if (shards === 1) {
    await writeSafetensors(join(folder, 'model.safetensors'), Object.fromEntries(tensors), { metadata });
    return weights;
  }
  const weightMap: Record<string, string> = {};
  const perShard = Math.ceil(tensors.length / shards);
  const number = (value: number) => String(value).padStart(5, '0');
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    const own = tensors.slice(shard * perShard, (shard + 1) * perShard);
    for (const [name] of own) weightMap[name] = file;
    await writeSafetensors(join(folder, file), Object.fromEntries(own), { metadata });
  }
  const bytes = tensors.reduce((sum, [, { data }]) => sum + encodeFloats(data, dtype).length, 0);
  const index = { metadata: { total_size: bytes }, weight_map: weightMap };
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify(index, undefined, 2));
  return weights;
}
