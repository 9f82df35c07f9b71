import type { Backend, LlamaConfig, Tensor, WeightDType } from '../engine/index.ts';
import { arrangeWeights, type LlamaWeights, planWeights } from '../engine/weights.ts';
import { randomNormal } from '../kernels/random-normal/index.ts';

/**
 * Weights of a model's true shape, made on the device. Projections have deviation 1 / sqrt(inputs) and norms are 1, so
 * that activations stay near 1 through every layer; embeddings have deviation 1.
 */
export function makeRandomWeights(backend: Backend, config: LlamaConfig, dtype: WeightDType): LlamaWeights {
  const tensors = new Map<string, Tensor>();
  for (const { label, dtype: held, shape } of planWeights(config, dtype)) {
    const tensor = backend.allocate(label, held, shape);
    tensors.set(label, tensor);
    const seed = tensors.size;
    const [rows = 1, columns] = shape;
    const isNorm = columns === undefined;
    const out = isNorm ? tensor.view([1, rows]) : tensor;
    const deviation = isNorm ? 0 : label === 'embedding' ? 1 : 1 / Math.sqrt(columns);
    backend.run(randomNormal, { out }, { seed, mean: isNorm ? 1 : 0, deviation });
  }
  return arrangeWeights(config, tensors);
}
