import type { Backend, LlamaConfig, Tensor, WeightDType } from '../engine/index.ts';
import { Lots } from '../engine/lots.ts';
import { arrangeWeights, type LlamaWeights, planWeights } from '../engine/weights.ts';
import { isQuantised, type QuantisedDType, sectionsOf, storedArray, storedBytes } from '../kernels/contract.ts';
import { quantise, quantisedSections } from '../kernels/quantise.ts';
import { normals, seededRandom } from '../kernels/random.ts';
import { randomNormal } from '../kernels/random-normal/index.ts';
import { distributionOf } from './make-model/weights.ts';

/** Rows that are drawn and quantised on the host, and then repeated: an even number, as `Backend.writeRows` wants. */
const blockRows = 256;

/**
 * Weights of a model's true shape, at the scale that random models on disk have too.
 *
 * They are made on the device, but for quantised ones: quantising is the host's, and takes minutes for all of a large
 * model. So a block of rows is drawn and quantised for each width, and repeated down the matrix; what a pass costs does
 * not depend on the numbers.
 */
export async function makeRandomWeights(
  backend: Backend,
  config: LlamaConfig,
  dtype: WeightDType,
): Promise<LlamaWeights> {
  const tensors = new Map<string, Tensor>();
  const blocks = new Map<string, readonly Uint8Array[]>();
  const lots = new Lots(backend);
  for (const { label, dtype: held, shape } of planWeights(config, dtype)) {
    const tensor = backend.allocate(label, held, shape);
    tensors.set(label, tensor);
    const seed = tensors.size;
    const [rows = 1, columns] = shape;
    const vector = label.endsWith('Bias') ? 'bias' : 'norm';
    const role = columns === undefined ? vector : label === 'embedding' ? 'embedding' : 'projection';
    const { mean, deviation } = distributionOf(role, columns ?? rows);
    if (!isQuantised(held)) {
      const out = columns === undefined ? tensor.view([1, rows]) : tensor;
      backend.run(randomNormal, { out }, { seed, mean, deviation });
      continue;
    }
    const key = `${columns} ${deviation}`;
    const block = blocks.get(key) ?? quantisedRows(held, columns!, deviation, seed);
    blocks.set(key, block);
    for (let firstRow = 0; firstRow < rows; firstRow += blockRows) {
      const count = Math.min(blockRows, rows - firstRow);
      const sections = block.map((bytes) => bytes.subarray(0, (bytes.length / blockRows) * count));
      backend.writeRows(tensor, firstRow, sections);
      await lots.wrote(sections.reduce((sum, { length }) => sum + length, 0));
    }
  }
  await lots.end();
  return arrangeWeights(config, tensors);
}

/** The sections of `blockRows` rows of random numbers, as `Backend.writeRows` takes them. */
function quantisedRows(dtype: QuantisedDType, columns: number, deviation: number, seed: number): Uint8Array[] {
  const shape = [blockRows, columns];
  const values = Float32Array.from(normals(seededRandom(seed), blockRows * columns), (value) => deviation * value);
  const words = storedArray(dtype, storedBytes(dtype, shape) / 4) as Uint32Array;
  quantise(values, dtype, quantisedSections(dtype, shape, words));
  const bytes = new Uint8Array(words.buffer);
  return sectionsOf(dtype, shape).map(({ offset, rowBytes }) => bytes.subarray(offset, offset + blockRows * rowBytes));
}
