/**
 * `tsx random-model.ts FOLDER [768|1b|7b]`: a model folder of a given shape with random weights in F16, for measuring
 * time where the real weights are not at hand. Its tokenizer is the embedded model's: ids beyond it mean nothing.
 */
import { copyFile, mkdir, open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expectedTensors, type LlamaConfig } from '../../engine/config.ts';
import { decodeToF16 } from '../../engine/safetensors/convert.ts';
import { embeddedModel } from '../../guard/node/load.ts';
import { seededRandom, standardNormal } from '../../kernels/random.ts';

const common = {
  headDim: 64,
  maxPositionEmbeddings: 2048,
  rmsNormEpsilon: 1e-5,
  ropeTheta: 10_000,
  tieWordEmbeddings: false,
  bosTokenId: 1,
  eosTokenIds: [2],
} as const;

/** torch_reference.py has the same shapes by the same names. */
export const modelShapes = {
  '768': {
    ...common,
    vocabularySize: 32_000,
    hiddenSize: 768,
    intermediateSize: 2048,
    numHiddenLayers: 12,
    numAttentionHeads: 12,
    numKeyValueHeads: 12,
  },
  /** Llama-3.2-1B, but for its scaled RoPE. */
  '1b': {
    ...common,
    vocabularySize: 128_256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHiddenLayers: 16,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    ropeTheta: 500_000,
    tieWordEmbeddings: true,
  },
  /** Llama-2-7B, and so the first Llama Guard. */
  '7b': {
    ...common,
    vocabularySize: 32_000,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 32,
    headDim: 128,
  },
} as const satisfies Record<string, LlamaConfig>;
export type ModelShape = keyof typeof modelShapes;

/** Numbers drawn once; a tensor takes them from a place of its own on, scaled. A prime, so that rows do not repeat. */
const poolSize = 1_048_573;
const chunkElements = 2 ** 20;

/** Projections get deviation 1 / sqrt(inputs) and norms are 1, which keeps activations near 1 through the layers. */
export async function writeRandomModel(folder: string, shape: ModelShape, seed = 1): Promise<void> {
  const config: LlamaConfig = modelShapes[shape];
  await mkdir(folder, { recursive: true });
  await copyFile(join(embeddedModel, 'tokenizer.model'), join(folder, 'tokenizer.model'));
  await writeFile(join(folder, 'config.json'), `${JSON.stringify(huggingFaceConfig(config), undefined, 1)}\n`);

  const tensors = [...expectedTensors(config)].map(([name, sizes]) => {
    const elements = sizes.reduce((product, size) => product * size, 1);
    return { name, sizes, elements };
  });
  let end = 0;
  const entries = tensors.map(({ name, sizes, elements }) => {
    const begin = end;
    end += elements * 2;
    return [name, { dtype: 'F16', shape: sizes, data_offsets: [begin, end] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const header = Buffer.concat([json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));

  const random = seededRandom(seed);
  const pool = Float32Array.from({ length: poolSize }, () => standardNormal(random));
  const file = await open(join(folder, 'model.safetensors'), 'w');
  try {
    await file.writeFile(length);
    await file.writeFile(header);
    const chunk = new Float32Array(chunkElements);
    for (const { sizes, elements } of tensors) {
      const [, columns] = sizes;
      const scale = columns === undefined ? 0 : 1 / Math.sqrt(columns);
      const offset = columns === undefined ? 1 : 0;
      let place = Math.floor(random() * poolSize);
      for (let done = 0; done < elements; done += chunkElements) {
        const part = chunk.subarray(0, Math.min(chunkElements, elements - done));
        for (let i = 0; i < part.length; i++) {
          part[i] = offset + scale * pool[place]!;
          place = place + 1 === poolSize ? 0 : place + 1;
        }
        const { bits } = decodeToF16(new Uint8Array(part.buffer, 0, part.byteLength), 'F32');
        await file.writeFile(new Uint8Array(bits.buffer));
      }
    }
  } finally {
    await file.close();
  }
}

function huggingFaceConfig(config: LlamaConfig): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    torch_dtype: 'float16',
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
    eos_token_id: config.eosTokenIds[0],
  };
}

if (import.meta.filename === process.argv[1]) {
  const [folder, shape = '768'] = process.argv.slice(2);
  if (!folder || !(shape in modelShapes)) {
    console.error(`usage: tsx random-model.ts FOLDER [${Object.keys(modelShapes).join('|')}]`);
    process.exit(2);
  }
  await writeRandomModel(folder, shape as ModelShape);
}
