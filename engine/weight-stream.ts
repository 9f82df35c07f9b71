/**
 * From the tensors of a checkpoint to those of a device: read in chunks of whole rows, arranged, converted or
 * quantised, and handed on.
 *
 * Host memory: while one tensor is converted, the next is being read. Each has at most two sources at a time with two
 * chunks each (`TensorSource.read`), eight chunks in all, and what they are converted into takes as much again: 64 MiB
 * with chunks of 4 MiB, whatever the model's size. Only rows of more than 2 MiB, of which no model is known, take more.
 */
import {
  isQuantised,
  product,
  quantBlock,
  quantisedFormats,
  type Section,
  sectionsOf,
  type WeightDType,
} from '../kernels/contract.ts';
import { quantise } from '../kernels/quantise.ts';
import { ModelError } from './errors.ts';
import { decodeToF16, decodeToF32, type FloatDType } from './safetensors/convert.ts';
import { bitsPerElement, type TensorInfo } from './safetensors/header.ts';
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
  /** Bytes of the checkpoint that they take. */
  readonly sourceBytes: number;
  readonly parts: readonly StoredPart[];
}

/** Neighbouring rows of one tensor: numbers, or blocks of the device tensor's dtype. */
type StoredPart = { readonly name: string; readonly count: number } & (
  | { readonly dtype: FloatDType; readonly bytes: Uint8Array }
  | { readonly sections: readonly Uint8Array[] }
);

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
    const infos = names.map((name) => source.tensors.get(name)!);
    // An even number, so that rows begin on four bytes in every dtype.
    const widest = Math.max(...infos.map((info) => rowBytesOf(tensor, info)));
    const rows = Math.max(2, Math.floor(defaultChunkBytes / widest / 2) * 2);
    const readers = infos.map((info) => partsOf(tensor, info, rows, source, signal));
    let done = 0;
    try {
      for (;;) {
        const results = await Promise.all(readers.map((reader) => reader.next()));
        const parts = results.flatMap(({ value }) => (value ? [value] : []));
        if (parts.length < readers.length) break;
        const { count } = parts[0]!;
        const sourceBytes = infos.reduce((sum, info) => sum + bytesUpTo(info, done + count) - bytesUpTo(info, done), 0);
        yield { firstRow, count, sourceBytes, parts };
        firstRow += count * parts.length;
        done += count;
      }
    } finally {
      await Promise.all(readers.map((reader) => reader.return()));
    }
  }
}

const rowBytesOf = (tensor: PlannedTensor, { dtype }: TensorInfo): number =>
  (widthOf(tensor) * bitsPerElement[dtype]) / 8;

/** Bytes of the checkpoint that the first rows of a tensor take, which are not always those that are read of it. */
const bytesUpTo = ({ begin, end, shape }: TensorInfo, rows: number): number =>
  Math.floor(((end - begin) * rows) / shape[0]!);

/** A tensor, so many rows at a time: in the device tensor's own blocks where the source has it so. */
async function* partsOf(
  tensor: PlannedTensor,
  info: TensorInfo,
  rows: number,
  source: TensorSource,
  signal: AbortSignal | undefined,
): AsyncGenerator<StoredPart, void, void> {
  const { name, dtype } = info as TensorInfo & { readonly dtype: FloatDType };
  const options = signal ? { signal } : {};
  if (source.blocks && source.blocks.dtypeOf(name) === tensor.dtype) {
    const [{ rowBytes }] = sectionsOf(tensor.dtype, tensor.shape) as [Section, Section];
    for await (const sections of source.blocks.read(name, { rows, ...options })) {
      yield { name, count: sections[0]!.length / rowBytes, sections };
    }
    return;
  }
  const rowBytes = rowBytesOf(tensor, info);
  for await (const bytes of source.read(name, { chunkBytes: rows * rowBytes, ...options })) {
    yield { name, count: bytes.length / rowBytes, dtype, bytes };
  }
}

/** Converts rows, in memory that it uses again. */
class RowEncoder {
  readonly #floats = new Scratch();
  readonly #sections = [new Scratch(), new Scratch()];
  readonly #merged = [new Scratch(), new Scratch()];

  encode(tensor: PlannedTensor, { firstRow, count, sourceBytes, parts }: StoredRows): EncodedRows {
    const { label, dtype } = tensor;
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

  #convert(part: StoredPart, dtype: WeightDType): readonly Uint8Array[] {
    if ('sections' in part) return part.sections;
    const { name, dtype: stored, bytes } = part;
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
