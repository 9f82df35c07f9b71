import type { HuggingFaceConfig } from './config.ts';
import { headsOf } from './tensors.ts';

/** Widths that are multiples of this suit every dtype that weights are held in, and every format of formats/. */
const unit = 32;
/** Fewer layers than two would leave out what passes from layer to layer. */
const fewestLayers = 2;

/**
 * A model of a published one's proportions, with widths, heads, layers and vocabulary multiplied by `scale`. What no
 * shape follows from (positions, theta, windows, epsilon) stays. The rule:
 *
 * - **Heads**: key and value heads are scaled and rounded, to one at least; each serves as many query heads as before.
 * - **Head width**: it stays, unless fewer heads do not suffice: then it is what the scaled width leaves for each, as a
 *   multiple of 32, from 32 up to the published width. One that is no such multiple stays.
 * - **Hidden width**: that of all heads where it was so before, else scaled, as a multiple of 32.
 * - **MLP width** and **vocabulary**: scaled, as multiples of 32; the vocabulary to no less than `smallestVocabulary`
 *   or what it was.
 * - **Layers**: scaled and rounded, to two at least or what there were.
 * - **Token ids** of the upper half of the vocabulary keep their distance from its end, others stay.
 *
 * The memory of a scaled model goes with about the third power of the scale.
 *
 * @param scale above 0, 1 at most
 * @throws RangeError for another scale
 */
export function scaleConfig(config: HuggingFaceConfig, scale: number, smallestVocabulary: number): HuggingFaceConfig {
  if (!(scale > 0 && scale <= 1)) throw new RangeError(`A scale must be above 0 and at most 1, but is ${scale}.`);
  if (scale === 1) return config;
  const { queryHeads, keyValueHeads, headDim } = headsOf(config);
  const { hidden_size: hidden, vocab_size: vocabulary, num_hidden_layers: layers } = config;

  const scaledKeyValueHeads = atLeast(1, Math.round(keyValueHeads * scale));
  const heads = scaledKeyValueHeads * (queryHeads / keyValueHeads);
  const room = (queryHeads * headDim * scale) / heads;
  const scaledHeadDim = headDim % unit === 0 ? Math.min(headDim, toUnit(room)) : headDim;
  const scaledHidden = hidden === queryHeads * headDim ? heads * scaledHeadDim : toUnit(hidden * scale);
  const scaledVocabulary = Math.min(vocabulary, atLeast(smallestVocabulary, toUnit(vocabulary * scale)));

  return {
    ...moveTokenIds(config, vocabulary, scaledVocabulary),
    hidden_size: scaledHidden,
    intermediate_size: toUnit(config.intermediate_size * scale),
    num_attention_heads: heads,
    num_hidden_layers: Math.min(layers, atLeast(fewestLayers, Math.round(layers * scale))),
    num_key_value_heads: scaledKeyValueHeads,
    ...(config.head_dim === undefined ? {} : { head_dim: scaledHeadDim }),
    vocab_size: scaledVocabulary,
  };
}

/** A configuration whose fields `*_token_id` keep their places in another vocabulary, as `scaleConfig` says. */
export function moveTokenIds<Config extends Readonly<Record<string, unknown>>>(
  config: Config,
  vocabulary: number,
  scaledVocabulary: number,
): Config {
  const move = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(move);
    return typeof value === 'number' && value >= vocabulary / 2 ? scaledVocabulary - (vocabulary - value) : value;
  };
  const fields = Object.entries(config).map(([field, value]) => [
    field,
    field.endsWith('_token_id') ? move(value) : value,
  ]);
  return Object.fromEntries(fields) as Config;
}

const atLeast = (least: number, value: number) => Math.max(least, value);
const toUnit = (value: number) => atLeast(unit, unit * Math.round(value / unit));
