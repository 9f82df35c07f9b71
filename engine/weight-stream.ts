/**
 * From the tensors of a checkpoint to those of a device: read in chunks of whole rows, arranged, converted or
 * quantised, and handed on.
 *
 * Host memory: while one tensor is converted, the next is being read. Each has at most two sources at a time with two
 * chunks each (`TensorSource.read`), eight chunks in all, and what they are converted into takes as much again: 64 MiB
 * with chunks of 4 MiB, whatever the model's size. Only rows of more than 2 MiB, of which no model is known, take more.
 */
import { isQuantised, product, quantBlock, quantisedFormats, type WeightDType } from '../kernels/contract.ts';
import { quantise } from '../kernels/quantise.ts';
import { ModelError } from './errors.ts';
import { decodeToF16, decodeToF32, type FloatDType } from './safetensors/convert.ts';
import { bitsPerElement } from './safetensors/header.ts';
import { defaultChunkBytes, type TensorSource } from './safetensors/source.ts';

/**
 * How a device tensor is made of checkpoint tensors of equal width: `stack` puts the rows of one behind those of the
 * other; `interleave` takes turns, row `n * j + k` being row `j` of the `k`-th of `n` tensors of equal height.
 */
export type Arrangement = 'stack' | 'interleave';

/** A tensor to be loaded. */
export interface PlannedTensor {
  readonly label: string;
  readonly dtype: WeightDType;
  readonly shape: readonly number[];
  readonly arrangement: Arrangement;
  /** Names in the checkpoint. */
  readonly sources: readonly string[];
}

/** Neighbouring rows as the device stores them; valid until the next are asked for. */
export interface EncodedRows {
  readonly label: string;
  readonly firstRow: number;
  /** As `Backend.writeRows` takes them. */
  readonly sections: readonly Uint8Array[];
  /** Bytes of the checkpoint that went into them. */
  readonly sourceBytes: number;
}

/** Rows as the checkpoint stores them: neighbours of one tensor, or as many of each of several that take turns. */
interface StoredRows {
  /** The first of them in the device tensor. */
  readonly firstRow: number;
  /** Rows of each part. */
  readonly count: number;
  readonly parts: readonly { readonly name: string; readonly dtype: FloatDType; readonly bytes: Uint8Array }[];
}

const widthOf = ({ shape }: PlannedTensor): number => product(shape.slice(1));

/**
 * All rows of the planned tensors, tensor by tensor.
 * @throws ModelError, or the signal's reason
 */
export async function* streamTensors(
  plan: readonly PlannedTensor[],
  source: TensorSource,
  signal?: AbortSignal,
): AsyncGenerator<EncodedRows, void, void> {
  const begin = (tensor: PlannedTensor | undefined) => {
    if (!tensor) return undefined;
    const chunks = storedRows(tensor, source, signal);
    const first = chunks.next();
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    first.catch(() => {});
    return { tensor, chunks, first };
  };
  const encoder = new RowEncoder();
  let ahead = begin(plan[0]);
  try {
    for (let i = 1; ahead; i++) {
      const { tensor, chunks, first } = ahead;
      ahead = begin(plan[i]);
      try {
        for (let result = await first; !result.done; result = await chunks.next()) {
          yield encoder.encode(tensor, result.value);
        }
      } finally {
        await chunks.return();
      }
    }
  } finally {
    await ahead?.chunks.return();
  }
}

/** The rows of a tensor's sources, chunk by chunk. */
async function* storedRows(
  tensor: PlannedTensor,
  source: TensorSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<StoredRows, void, void> {
  const { arrangement, sources } = tensor;
  const groups = arrangement === 'stack' ? sources.map((name) => [name]) : [sources];
  let firstRow = 0;
  for (const names of groups) {
    const group = names.map((name) => {
      const dtype = source.tensors.get(name)!.dtype as FloatDType;
      return { name, dtype, rowBytes: (widthOf(tensor) * bitsPerElement[dtype]) / 8 };
    });
    // An even number, so that rows begin on four bytes in every dtype.
    const widest = Math.max(...group.map(({ rowBytes }) => rowBytes));
    const rows = Math.max(2, Math.floor(defaultChunkBytes / widest / 2) * 2);
    const readers = group.map(({ name, rowBytes }) =>
      source.read(name, { chunkBytes: rows * rowBytes, ...(signal ? { signal } : {}) })[Symbol.asyncIterator](),
    );
    try {
      for (;;) {
        const chunks = await Promise.all(readers.map((reader) => reader.next()));
        if (chunks[0]!.done) break;
        const parts = group.map(({ name, dtype }, i) => ({ name, dtype, bytes: chunks[i]!.value as Uint8Array }));
        const count = parts[0]!.bytes.length / group[0]!.rowBytes;
        yield { firstRow, count, parts };
        firstRow += count * parts.length;
      }
    } finally {
      await Promise.all(readers.map((reader) => reader.return?.()));
    }
  }
}

/** Converts rows, in memory that it uses again. */
class RowEncoder {
  readonly #floats = new Scratch();
  readonly #sections = [new Scratch(), new Scratch()];
  readonly #merged = [new Scratch(), new Scratch()];

  encode(tensor: PlannedTensor, { firstRow, count, parts }: StoredRows): EncodedRows {
    const { label, dtype } = tensor;
    const sourceBytes = parts.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const rows = { label, firstRow, sourceBytes };
    if (parts.length === 1) return { ...rows, sections: this.#convert(parts[0]!, dtype) };
    const merged: Uint8Array[] = [];
    for (const [k, part] of parts.entries()) {
      for (const [i, section] of this.#convert(part, dtype).entries()) {
        merged[i] ??= this.#merged[i]!.bytes(section.length * parts.length);
        interleaveRows(section, merged[i], { rowBytes: section.length / count, of: parts.length, turn: k });
      }
    }
    return { ...rows, sections: merged };
  }

  #convert({ name, dtype: stored, bytes }: StoredRows['parts'][number], dtype: WeightDType): Uint8Array[] {
    const count = (bytes.length * 8) / bitsPerElement[stored];
    const refuse = (what: string) =>
      new ModelError('dtype-unsupported', `'${name}' holds ${what}. Load the model with dtype f32.`);
    if (dtype === 'f16') {
      const target = this.#sections[0]!.bytes(2 * count);
      const { outOfRange } = decodeToF16(bytes, stored, new Uint16Array(target.buffer, 0, count));
      if (outOfRange !== undefined) throw refuse('a number beyond the range of f16 (65,504)');
      return [target];
    }
    const target = this.#floats.bytes(4 * count);
    const floats = decodeToF32(bytes, stored, new Float32Array(target.buffer, 0, count));
    if (!isQuantised(dtype)) return [target];
    const { bits, parameters } = quantisedFormats[dtype];
    const quants = this.#sections[0]!.bytes((count * bits) / 8);
    const halves = this.#sections[1]!.bytes((count / quantBlock) * parameters * 2);
    const into = { quants, parameters: new Uint16Array(halves.buffer, 0, halves.length / 2) };
    if (quantise(floats, dtype, into) !== undefined) {
      throw refuse(`numbers that ${dtype} cannot: NaN, infinities, or far beyond the range of f16 (65,504)`);
    }
    return [quants, halves];
  }
}

/** Puts rows into every `of`-th row of `target`, from row `turn` on. */
function interleaveRows(
  rows: Uint8Array,
  target: Uint8Array,
  { rowBytes, of, turn }: { readonly rowBytes: number; readonly of: number; readonly turn: number },
): void {
  for (let at = 0; at < rows.length; at += rowBytes) {
    target.set(rows.subarray(at, at + rowBytes), at * of + turn * rowBytes);
  }
}

/** Memory that grows to what was asked for most. */
class Scratch {
  #buffer = new ArrayBuffer(0);

  bytes(count: number): Uint8Array<ArrayBuffer> {
    if (this.#buffer.byteLength < count) this.#buffer = new ArrayBuffer(count);
    return new Uint8Array(this.#buffer, 0, count);
  }
}
