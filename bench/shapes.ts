import { expectedTensors, type LlamaConfig } from '../engine/config.ts';

/** What all shapes have in common unless they say otherwise. */
const common = { rmsNormEpsilon: 1e-5, bosTokenId: 1, eosTokenIds: [2], tieWordEmbeddings: false } as const;

/** The shapes of real models, by what `--config` calls them. */
export const shapes = {
  /** guard/models/tiny-guard */
  tiny: {
    ...common,
    vocabularySize: 4096,
    hiddenSize: 192,
    intermediateSize: 512,
    numHiddenLayers: 6,
    numAttentionHeads: 6,
    numKeyValueHeads: 6,
    headDim: 32,
    maxPositionEmbeddings: 2048,
    ropeTheta: 10_000,
  },
  /** Of no published model: between tiny-guard and Llama-3.2-1B, for software adapters. */
  '768': {
    ...common,
    vocabularySize: 32_000,
    hiddenSize: 768,
    intermediateSize: 2048,
    numHiddenLayers: 12,
    numAttentionHeads: 12,
    numKeyValueHeads: 12,
    headDim: 64,
    maxPositionEmbeddings: 2048,
    ropeTheta: 10_000,
  },
  /** meta-llama/Llama-3.2-1B, and Llama-Guard-3-1B */
  '1b': {
    ...common,
    vocabularySize: 128_256,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHiddenLayers: 16,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    headDim: 64,
    maxPositionEmbeddings: 131_072,
    ropeTheta: 500_000,
    tieWordEmbeddings: true,
  },
  /** meta-llama/Llama-2-7b-hf, and LlamaGuard-7b */
  '7b': {
    ...common,
    vocabularySize: 32_000,
    hiddenSize: 4096,
    intermediateSize: 11_008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 32,
    headDim: 128,
    maxPositionEmbeddings: 4096,
    ropeTheta: 10_000,
  },
  /** meta-llama/Llama-3.1-8B, and Llama-Guard-3-8B */
  '8b': {
    ...common,
    vocabularySize: 128_256,
    hiddenSize: 4096,
    intermediateSize: 14_336,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
    numKeyValueHeads: 8,
    headDim: 128,
    maxPositionEmbeddings: 131_072,
    ropeTheta: 500_000,
  },
} satisfies Record<string, LlamaConfig>;

export type ShapeName = keyof typeof shapes;

/**
 * Floating-point operations that a forward pass does in its linear layers: a multiply-add for each weight and row. Of
 * the last layer only the keys and values are computed for every row, the rest and lm_head for the wanted rows alone.
 */
export function linearFlops(config: LlamaConfig, tokens: number, wanted: number): number {
  const everyRow = /(?:q|k|v)_proj/;
  const lastLayer = `model.layers.${config.numHiddenLayers - 1}.`;
  let flops = 2 * config.vocabularySize * config.hiddenSize * wanted;
  for (const [name, [outputs = 0, inputs = 0]] of expectedTensors(config)) {
    if (!name.includes('_proj')) continue;
    flops += 2 * outputs * inputs * (name.startsWith(lastLayer) && !everyRow.test(name) ? wanted : tokens);
  }
  return flops;
}
