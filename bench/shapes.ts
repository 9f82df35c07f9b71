import { expectedTensors, type LlamaConfig, parseLlamaConfig } from '../engine/config.ts';
import tinyGuard from '../guard/models/tiny-guard/config.json' with { type: 'json' };
import { lookUp } from './make-model/catalogue.ts';

/** Models whose shapes have short names, by their names in make-model's catalogue. */
export const namedModels = {
  '768': 'llama-768',
  '1b': 'llama-guard-3-1b',
  '7b': 'llama-guard-7b',
  '8b': 'llama-guard-3-8b',
} as const;

/** How they differ from what is published: RoPE's scaling is left out, which changes no shape and no time. */
export const unscaledRope = { rope_scaling: null } as const;

const shapeOf = (name: keyof typeof namedModels): LlamaConfig =>
  parseLlamaConfig({ ...lookUp(namedModels[name]).config, ...unscaledRope }, namedModels[name]);

/** The shapes of real models, by what `--config` calls them. */
export const shapes = {
  tiny: parseLlamaConfig(tinyGuard, 'tiny-guard'),
  '768': shapeOf('768'),
  '1b': shapeOf('1b'),
  '7b': shapeOf('7b'),
  '8b': shapeOf('8b'),
} as const;

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
