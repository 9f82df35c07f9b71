/**
 * `tsx to-gguf.ts FOLDER FILE [f32|f16|q8_0]`: a Llama model folder (config.json, safetensors, tokenizer.model) as a
 * GGUF file that llama.cpp computes the same function from.
 */
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { expectedTensors, type LlamaConfig } from '../../engine/config.ts';
import { openModelFolder } from '../../engine/node/index.ts';
import { decodeToF16, decodeToF32, type FloatDType } from '../../engine/safetensors/convert.ts';
import type { TensorSource } from '../../engine/safetensors/source.ts';
import { f32ToF16 } from '../../kernels/f16.ts';
import { PieceType, parseSentencePieceModel, type SentencePieceModel } from '../../tokenizer/model-proto.ts';
import { type GgufDType, type GgufTensor, type GgufValue, q8Block, writeGguf } from './gguf.ts';

/** llama.cpp's names of what Hugging Face calls so, in a layer and outside. */
const layerNames: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};
const outerNames: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

/** `general.file_type`, by llama.cpp's numbers. */
const fileType = { f32: 0, f16: 1, q8_0: 7 } as const;

/**
 * Matrices get `dtype`; vectors stay f32, as llama.cpp's own converter has it.
 * @throws ModelError, TokenizerError for a folder that cannot be read; RangeError where q8_0 does not divide the rows, or
 *   for what only other architectures than Llama 2 have
 */
export async function toGguf(folder: string, file: string, dtype: GgufDType): Promise<void> {
  await using opened = await openModelFolder(folder);
  const { config, source } = opened;
  if (config.ropeScaling || config.slidingWindows) {
    throw new RangeError(`${folder} has scaled RoPE or windows, which are not carried over to GGUF.`);
  }
  const vocabulary = parseSentencePieceModel(await readFile(join(folder, 'tokenizer.model')));
  const tensors = [...expectedTensors(config)].map(([name, shape]): GgufTensor => {
    const stored = shape.length === 1 ? 'f32' : dtype;
    if (stored === 'q8_0' && shape.at(-1)! % q8Block !== 0) {
      throw new RangeError(`${name} has rows of ${shape.at(-1)} numbers, which blocks of ${q8Block} do not divide.`);
    }
    const bytes = async () => {
      const values = await readFloats(source, name);
      return encode(headsOf(config, name) ? interleave(values, headsOf(config, name)!, config) : values, stored);
    };
    return { name: ggufName(name), dtype: stored, shape, bytes };
  });
  const name = basename(resolve(folder));
  await writeGguf(file, { ...modelMetadata(config, name, dtype), ...tokenizerMetadata(vocabulary, config) }, tensors);
}

function ggufName(name: string): string {
  const [, layer, part] = /^model\.layers\.(\d+)\.(.+)\.weight$/.exec(name) ?? [];
  const known = part === undefined ? outerNames[name] : layerNames[part];
  if (!known) throw new RangeError(`llama.cpp has no name for ${name}.`);
  return part === undefined ? known : `blk.${layer}.${known}.weight`;
}

/** The heads whose rows RoPE turns, in the matrices that make queries and keys. */
function headsOf(config: LlamaConfig, name: string): number | undefined {
  if (name.endsWith('q_proj.weight')) return config.numAttentionHeads;
  return name.endsWith('k_proj.weight') ? config.numKeyValueHeads : undefined;
}

/**
 * RoPE turns pairs of numbers: Hugging Face pairs element i of a head with i + headDim / 2, llama.cpp neighbours. The
 * rows of the matrix are put into the order that makes the pairs the same.
 */
function interleave(values: Float32Array, heads: number, { headDim, hiddenSize }: LlamaConfig): Float32Array {
  const result = new Float32Array(values.length);
  const half = headDim / 2;
  for (let head = 0; head < heads; head++) {
    for (let i = 0; i < headDim; i++) {
      const from = (head * headDim + i) * hiddenSize;
      const to = (head * headDim + 2 * (i % half) + Math.floor(i / half)) * hiddenSize;
      result.set(values.subarray(from, from + hiddenSize), to);
    }
  }
  return result;
}

async function readFloats(source: TensorSource, name: string): Promise<Float32Array> {
  const { dtype, shape } = source.tensors.get(name)!;
  const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
  let done = 0;
  for await (const chunk of source.read(name)) {
    done += decodeToF32(chunk, dtype as FloatDType, values.subarray(done)).length;
  }
  return values;
}

function encode(values: Float32Array, dtype: GgufDType): Uint8Array {
  if (dtype === 'q8_0') return quantise(values);
  const f32 = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return dtype === 'f32' ? f32 : new Uint8Array(decodeToF16(f32, 'F32').bits.buffer);
}

/** Blocks of 32: an f16 scale, the largest magnitude over 127, and the numbers in units of it, to nearest. */
function quantise(values: Float32Array): Uint8Array {
  const blocks = values.length / q8Block;
  const bytes = new Uint8Array(blocks * (2 + q8Block));
  const view = new DataView(bytes.buffer);
  for (let block = 0; block < blocks; block++) {
    const own = values.subarray(block * q8Block, (block + 1) * q8Block);
    const scale = own.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / 127;
    const start = block * (2 + q8Block);
    view.setUint16(start, f32ToF16(scale), true);
    const inverse = scale === 0 ? 0 : 1 / scale;
    own.forEach((value, i) => {
      view.setInt8(start + 2 + i, Math.round(value * inverse));
    });
  }
  return bytes;
}

function modelMetadata(config: LlamaConfig, name: string, dtype: GgufDType): Record<string, GgufValue> {
  return {
    'general.architecture': 'llama',
    'general.name': name,
    'general.file_type': fileType[dtype],
    'general.quantization_version': 2,
    'llama.vocab_size': config.vocabularySize,
    'llama.context_length': config.maxPositionEmbeddings,
    'llama.embedding_length': config.hiddenSize,
    'llama.block_count': config.numHiddenLayers,
    'llama.feed_forward_length': config.intermediateSize,
    'llama.attention.head_count': config.numAttentionHeads,
    'llama.attention.head_count_kv': config.numKeyValueHeads,
    'llama.attention.key_length': config.headDim,
    'llama.attention.value_length': config.headDim,
    'llama.attention.layer_norm_rms_epsilon': { float32: config.rmsNormEpsilon },
    'llama.rope.dimension_count': config.headDim,
    'llama.rope.freq_base': { float32: config.ropeTheta },
  };
}

/** The pieces with their scores and types, whose numbers are SentencePiece's own; rows of the model beyond them are unused. */
function tokenizerMetadata(model: SentencePieceModel, config: LlamaConfig): Record<string, GgufValue> {
  const spare = Array.from({ length: config.vocabularySize - model.pieces.length }, (_, i) => ({
    text: `[PAD${model.pieces.length + i}]`,
    score: -10_000,
    type: PieceType.unused,
  }));
  const pieces = [...model.pieces, ...spare];
  return {
    'tokenizer.ggml.model': 'llama',
    'tokenizer.ggml.tokens': pieces.map(({ text }) => text),
    'tokenizer.ggml.scores': { float32s: pieces.map(({ score }) => score) },
    'tokenizer.ggml.token_type': { int32s: pieces.map(({ type }) => type) },
    'tokenizer.ggml.bos_token_id': model.bosId,
    'tokenizer.ggml.eos_token_id': model.eosId,
    'tokenizer.ggml.unknown_token_id': model.unknownId,
    'tokenizer.ggml.add_bos_token': true,
    'tokenizer.ggml.add_eos_token': false,
    'tokenizer.ggml.add_space_prefix': model.addDummyPrefix,
  };
}

if (import.meta.filename === process.argv[1]) {
  const [folder, file, dtype = 'f16'] = process.argv.slice(2);
  if (!folder || !file || !(dtype in fileType)) {
    console.error('usage: tsx to-gguf.ts FOLDER FILE [f32|f16|q8_0]');
    process.exit(2);
  }
  await toGguf(folder, file, dtype as GgufDType);
}
