import { quote } from '../kernels/json.ts';
import { type Adapter, type LowRankUpdate, readUpdate } from './adapter.ts';
import { ModelError } from './errors.ts';
import { decodeToF32, type FloatDType, floatDTypes } from './safetensors/convert.ts';
import { bitsPerElement, type TensorInfo } from './safetensors/header.ts';
import { defaultChunkBytes, type ReadTensorOptions, type TensorSource } from './safetensors/source.ts';

/**
 * A checkpoint with an adapter merged into it: `W + scale * B A` in f32, chunk by chunk as it is read, so that host
 * memory holds the two small matrices of one W at a time. A W of a quantised checkpoint is decoded first, and quantised
 * anew where the device is to hold it so. Other tensors are as they were. Owns neither of the two.
 *
 * @throws ModelError `adapter-unsupported` for a matrix that is not stored as floats
 */
export function mergedSource(source: TensorSource, adapter: Adapter): TensorSource {
  const tensors = new Map(source.tensors);
  for (const name of adapter.updates.keys()) {
    const tensor = tensors.get(name);
    if (!tensor || !(floatDTypes as readonly string[]).includes(tensor.dtype)) {
      throw new ModelError(
        'adapter-unsupported',
        `an adapter cannot be merged into ${quote(name)}, which the model has ${tensor ? `as ${tensor.dtype}` : 'in another form'}: ` +
          'keep the adapter apart, or take the unquantized model.',
      );
    }
    const [rows, inputs] = tensor.shape as [number, number];
    tensors.set(name, { ...tensor, dtype: 'F32', begin: 0, end: 4 * rows * inputs });
  }
  const { pieces, blocks } = source;
  const isPlain = (name: string) => !adapter.updates.has(name);
  return {
    ...(pieces ? { pieces: { ...pieces, has: (name) => isPlain(name) && pieces.has(name) } } : {}),
    ...(blocks ? { blocks: { ...blocks, dtypeOf: (name) => (isPlain(name) ? blocks.dtypeOf(name) : undefined) } } : {}),
    tensors,
    totalBytes: [...tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0),
    read: (name, options) => {
      const update = adapter.updates.get(name);
      if (!update) return source.read(name, options);
      return readMerged(source, source.tensors.get(name)!, adapter, update, options);
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/** The rows of a matrix with its update added. */
async function* readMerged(
  source: TensorSource,
  { name, dtype, shape }: TensorInfo,
  adapter: Adapter,
  update: LowRankUpdate,
  { chunkBytes = defaultChunkBytes, onlyFirst = false, signal }: ReadTensorOptions = {},
): AsyncGenerator<Uint8Array, void, void> {
  const [outputs, inputs] = shape as [number, number];
  const rowBytes = (inputs * bitsPerElement[dtype]) / 8;
  const rows = Math.max(2, Math.floor(chunkBytes / (4 * inputs) / 2) * 2);
  const product = padded(await readUpdate(adapter, update, signal), update.rank);
  const values = new Float32Array(Math.min(rows, outputs + (outputs % 2)) * inputs);
  let row = 0;
  const whole = { chunkBytes: rows * rowBytes, onlyFirst, ...(signal ? { signal } : {}) };
  for await (const chunk of source.read(name, whole)) {
    const { length } = decodeToF32(chunk, dtype as FloatDType, values);
    addRows(product, values, row, length / inputs);
    yield new Uint8Array(values.buffer, 0, 4 * length);
    row += length / inputs;
  }
}

/** Ranks that are added in one go, to two rows at a time: what stays in registers. */
const ranksAtOnce = 4;

/** The matrices of an update, padded by zeros to whole groups of ranks, and B to whole pairs of rows. */
interface Padded {
  readonly a: Float32Array; // (ranks, inputs)
  readonly b: Float32Array; // (rows, ranks)
  readonly ranks: number;
  readonly inputs: number;
}

function padded({ a, b }: Pick<Padded, 'a' | 'b'>, rank: number): Padded {
  const ranks = Math.ceil(rank / ranksAtOnce) * ranksAtOnce;
  const [inputs, outputs] = [a.length / rank, b.length / rank];
  const wide = { a: new Float32Array(ranks * inputs), b: new Float32Array((outputs + 1) * ranks) };
  wide.a.set(a);
  for (let row = 0; row < outputs; row++) wide.b.set(b.subarray(row * rank, (row + 1) * rank), row * ranks);
  return { ...wide, ranks, inputs };
}

/**
 * Adds `count` rows of B A, from an even row on, to those of a matrix, (rows, inputs). Where `count` is odd, `values`
 * must have room for a row more, which is changed.
 */
function addRows({ a, b, ranks, inputs }: Padded, values: Float32Array, firstRow: number, count: number): void {
  for (let row = 0; row < count; row += 2) {
    const upper = row * inputs;
    const lower = upper + inputs;
    for (let r = 0; r < ranks; r += ranksAtOnce) {
      const p = (firstRow + row) * ranks + r;
      const q = p + ranks;
      const [p0, p1, p2, p3] = [b[p]!, b[p + 1]!, b[p + 2]!, b[p + 3]!];
      const [q0, q1, q2, q3] = [b[q]!, b[q + 1]!, b[q + 2]!, b[q + 3]!];
      const at = r * inputs;
      for (let i = 0; i < inputs; i++) {
        const w = a[at + i]!;
        const x = a[at + inputs + i]!;
        const y = a[at + 2 * inputs + i]!;
        const z = a[at + 3 * inputs + i]!;
        values[upper + i]! += p0 * w + p1 * x + p2 * y + p3 * z;
        values[lower + i]! += q0 * w + q1 * x + q2 * y + q3 * z;
      }
    }
  }
}
