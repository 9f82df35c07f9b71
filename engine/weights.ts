import { isQuantised, storable, storedBytes, type WeightDType } from '../kernels/contract.ts';
import type { Backend, Tensor } from './backend.ts';
import { expectedTensors, type LlamaConfig } from './config.ts';
import { Lots } from './lots.ts';
import type { TensorSource } from './safetensors/source.ts';
import { type Place, type PlannedTensor, streamTensors } from './weight-stream.ts';

export type { WeightDType } from '../kernels/contract.ts';

/** The checkpoint tensors whose rows make up one device tensor. */
type Recipe = Pick<PlannedTensor, 'arrangement' | 'sources'>;
const weightsOf = (names: readonly string[]) => names.map((name) => `${name}.weight`);
const stack = (...names: string[]): Recipe => ({ arrangement: 'stack', sources: weightsOf(names) });
const interleave = (...names: string[]): Recipe => ({ arrangement: 'interleave', sources: weightsOf(names) });
const stackBiases = (...names: string[]): Recipe => ({
  arrangement: 'stack',
  sources: names.map((name) => `${name}.bias`),
});

/** Each matrix is `(outputs, inputs)`: `y = W x`. */
const layerRecipes = {
  attentionNorm: stack('input_layernorm'), // (hidden)
  queryKeyValue: stack('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), // ((heads + 2 keyValueHeads) headDim, hidden)
  attentionOutput: stack('self_attn.o_proj'), // (hidden, heads * headDim)
  mlpNorm: stack('post_attention_layernorm'), // (hidden)
  gateUp: interleave('mlp.gate_proj', 'mlp.up_proj'), // (2 intermediate, hidden), rows alternating
  down: stack('mlp.down_proj'), // (hidden, intermediate)
} as const;

/** Of the layers of some models; whether a model has them is for `expectedTensors` to say. */
const optionalLayerRecipes = {
  queryKeyValueBias: stackBiases('self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj'), // ((heads + 2 keyValueHeads) headDim)
  queryNorm: stack('self_attn.q_norm'), // (headDim)
  keyNorm: stack('self_attn.k_norm'), // (headDim)
  attentionOutputBias: stackBiases('self_attn.o_proj'), // (hidden)
} as const;

const modelRecipes = {
  embedding: stack('model.embed_tokens'), // (vocabulary, hidden)
  finalNorm: stack('model.norm'), // (hidden)
  head: stack('lm_head'), // (vocabulary, hidden); the embedding where they are tied
} as const;

export type LayerWeights = Readonly<Record<keyof typeof layerRecipes, Tensor>> &
  Readonly<Partial<Record<keyof typeof optionalLayerRecipes, Tensor | undefined>>>;
export type LlamaWeights = Readonly<Record<keyof typeof modelRecipes, Tensor>> & {
  readonly layers: readonly LayerWeights[];
};

/** What loading tells: bytes of the checkpoint read so far, of how many. */
export type OnProgress = (progress: { readonly loadedBytes: number; readonly totalBytes: number }) => void;

export interface LoadWeightsOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
}

/**
 * How a tensor is held where matrices are wanted in `dtype`: norms in f32; in f16 what has no whole blocks, and what a
 * quantised checkpoint keeps whole.
 */
function dtypeOf(shape: readonly number[], dtype: WeightDType, isWhole: boolean): WeightDType {
  if (shape.length === 1) return 'f32';
  return isQuantised(dtype) && (isWhole || !storable(dtype, shape)) ? 'f16' : dtype;
}

/** The device tensors of a model, by `embedding`, `layers.0.queryKeyValue` and so on. */
export function planWeights(config: LlamaConfig, dtype: WeightDType): PlannedTensor[] {
  const shapes = expectedTensors(config);
  const plan = (label: string, { arrangement, sources }: Recipe, prefix = ''): PlannedTensor => {
    const names = sources.map((source) => prefix + source);
    const rows = names.reduce((sum, name) => sum + shapes.get(name)![0]!, 0);
    const shape = [rows, ...shapes.get(names[0]!)!.slice(1)];
    const isWhole = names.some((name) => config.wholeMatrices?.includes(name));
    return { label, dtype: dtypeOf(shape, dtype, isWhole), shape, arrangement, sources: names };
  };
  const layers = Array.from({ length: config.numHiddenLayers }, (_, i) => {
    const prefix = `model.layers.${i}.`;
    return Object.entries({ ...layerRecipes, ...optionalLayerRecipes })
      .filter(([, { sources }]) => shapes.has(prefix + sources[0]))
      .map(([name, recipe]) => plan(`layers.${i}.${name}`, recipe, prefix));
  });
  const { embedding, finalNorm, head } = modelRecipes;
  return [
    plan('embedding', embedding),
    ...layers.flat(),
    plan('finalNorm', finalNorm),
    ...(config.tieWordEmbeddings ? [] : [plan('head', head)]),
  ];
}

/** Bytes that the weights take on a device. */
export const weightBytes = (config: LlamaConfig, dtype: WeightDType): number =>
  planWeights(config, dtype).reduce((sum, tensor) => sum + storedBytes(tensor.dtype, tensor.shape), 0);

/**
 * Streams a checkpoint into device memory. Of the host's that takes what weight-stream.ts says and two lots.
 * @throws ModelError, DeviceError `out-of-memory`, or the signal's reason; nothing stays allocated then.
 */
export async function loadWeights(
  backend: Backend,
  config: LlamaConfig,
  source: TensorSource,
  dtype: WeightDType,
  { signal, onProgress }: LoadWeightsOptions = {},
): Promise<LlamaWeights> {
  const plan = planWeights(config, dtype);
  const totalBytes = plan
    .flatMap(({ sources }) => sources.map((name) => source.tensors.get(name)!))
    .reduce((sum, { begin, end }) => sum + end - begin, 0);
  const tensors = new Map<string, Tensor>();
  let loadedBytes = 0;
  const lots = new Lots(backend);
  try {
    // All at once, so that a model that does not fit is told of before it is read.
    for (const { label, dtype, shape } of plan) tensors.set(label, backend.allocate(label, dtype, shape));
    const place: Place = ({ label }, firstRow, rows) => backend.rowsInPlace?.(tensors.get(label)!, firstRow, rows);
    const roundInPlace = backend.roundInPlace?.bind(backend);
    const options = { signal, place, roundInPlace };
    for await (const { label, firstRow, sections, sourceBytes } of streamTensors(plan, source, options)) {
      if (sections.length > 0) backend.writeRows(tensors.get(label)!, firstRow, sections);
      await lots.wrote(sections.reduce((sum, { length }) => sum + length, 0));
      loadedBytes += sourceBytes;
      onProgress?.({ loadedBytes, totalBytes });
    }
    await lots.end();
  } catch (error) {
    for (const tensor of tensors.values()) tensor[Symbol.dispose]();
    throw error;
  }
  return arrangeWeights(config, tensors);
}

/** The weights by their places in the model, out of all of `planWeights` by label. */
export function arrangeWeights(config: LlamaConfig, tensors: ReadonlyMap<string, Tensor>): LlamaWeights {
  const named = <Name extends string>(recipes: Readonly<Record<Name, Recipe>>, prefix = '') =>
    Object.fromEntries(Object.keys(recipes).map((name) => [name, tensors.get(prefix + name)])) as Record<Name, Tensor>;
  const model = named(modelRecipes);
  return {
    ...model,
    head: config.tieWordEmbeddings ? model.embedding : model.head,
    layers: Array.from({ length: config.numHiddenLayers }, (_, i) => ({
      ...named(layerRecipes, `layers.${i}.`),
      ...named(optionalLayerRecipes, `layers.${i}.`),
    })),
  };
}
