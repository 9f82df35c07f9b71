/**
 * From the tensors of a checkpoint to those of a device: read in pieces of whole rows, arranged, converted or quantised,
 * and handed on.
 *
 * Host memory: while a piece is converted, the next ones are being read, and so is the beginning of the next tensor; ten
 * pieces of 4 MiB at the most, and what they are converted into takes half as much again: 64 MiB, whatever the model's
 * size. Rows that are stored as the device holds them go straight to where they stay, where a device lets them; so does
 * bfloat16 that is to be f16, and is rounded there. Only rows of more than 2 MiB, of which no model is known, take more, and
 * what quantised checkpoints do (quantised/source.ts).
 */
import { isQuantised, product, type Section, sectionsOf, type WeightDType } from '../kernels/contract.ts';
import { beyondF16, isSame, RowEncoder, type SourceRows } from './row-encoder.ts';
import type { FloatDType } from './safetensors/convert.ts';
import { bitsPerElement, type TensorInfo } from './safetensors/header.ts';
import { defaultChunkBytes, type PieceSource, type TensorSource } from './safetensors/source.ts';

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
  /** As `Backend.writeRows` takes them; none where they are where `Place` said already. */
  readonly sections: readonly Uint8Array[];
  /** Bytes of the checkpoint that went into them. */
  readonly sourceBytes: number;
}

/** As `Backend.rowsInPlace`, of a planned tensor. */
export type Place = (tensor: PlannedTensor, firstRow: number, rows: number) => readonly Uint8Array[] | undefined;

export interface StreamOptions {
  readonly signal?: AbortSignal | undefined;
  readonly place?: Place | undefined;
  /** As `Backend.roundInPlace`: with it bfloat16 that is to be f16 is read to its place too. */
  readonly roundInPlace?: ((bytes: Uint8Array) => number | undefined) | undefined;
}

/** Rows as the checkpoint stores them: neighbours of one tensor, or as many of each of several that take turns. */
interface StoredRows {
  /** The first of them in the device tensor. */
  readonly firstRow: number;
  /** Bytes of the checkpoint that they take. */
  readonly sourceBytes: number;
  /** None where they are in their place already, as the device holds them. */
  readonly parts: readonly SourceRows[];
}

/** What the rows of a tensor come from. */
interface Origin {
  readonly source: TensorSource;
  readonly encoder: RowEncoder;
  readonly options: StreamOptions;
}

const widthOf = ({ shape }: PlannedTensor): number => product(shape.slice(1));

const rowBytesOf = (tensor: PlannedTensor, { dtype }: TensorInfo): number =>
  (widthOf(tensor) * bitsPerElement[dtype]) / 8;

/** Which tensors' rows are read together: those of all that take turns, else of one after another. */
function readTogether({ arrangement, sources }: PlannedTensor, { tensors }: TensorSource): TensorInfo[][] {
  const infos = sources.map((name) => tensors.get(name)!);
  return arrangement === 'stack' ? infos.map((info) => [info]) : [infos];
}

/** Rows of a piece: an even number, so that they begin on four bytes in every dtype. */
function pieceRows(tensor: PlannedTensor, group: readonly TensorInfo[]): number {
  const widest = Math.max(...group.map((info) => rowBytesOf(tensor, info)));
  return Math.max(2, Math.floor(defaultChunkBytes / widest / 2) * 2);
}

/** Bytes, and numbers, of the largest piece of any tensor. */
function largestPiece(plan: readonly PlannedTensor[], source: TensorSource): readonly [bytes: number, count: number] {
  const rows = plan.flatMap((tensor) =>
    readTogether(tensor, source).flatMap((group) => {
      const most = pieceRows(tensor, group);
      return group.map((info) => ({ rows: Math.min(most, info.shape[0]!), width: widthOf(tensor), info, tensor }));
    }),
  );
  return [
    Math.max(0, ...rows.map(({ rows, tensor, info }) => rows * rowBytesOf(tensor, info))),
    Math.max(0, ...rows.map(({ rows, width }) => rows * width)),
  ];
}

/**
 * All rows of the planned tensors, tensor by tensor.
 * @throws ModelError, or the signal's reason
 */
export async function* streamTensors(
  plan: readonly PlannedTensor[],
  source: TensorSource,
  options: StreamOptions = {},
): AsyncGenerator<EncodedRows, void, void> {
  const encoder = new RowEncoder(...largestPiece(plan, source));
  const begin = (tensor: PlannedTensor | undefined) => {
    if (!tensor) return undefined;
    const rows = storedRows(tensor, { source, encoder, options });
    const first = rows.next();
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    first.catch(() => {});
    return { tensor, rows, first };
  };
  let ahead = begin(plan[0]);
  try {
    for (let i = 1; ahead; i++) {
      const { tensor, rows, first } = ahead;
      ahead = begin(plan[i]);
      try {
        for (let result = await first; !result.done; result = await rows.next()) {
          yield encode(tensor, result.value, encoder, options);
        }
      } finally {
        await rows.return();
      }
    }
  } finally {
    await ahead?.rows.return();
  }
}

function encode(
  tensor: PlannedTensor,
  { firstRow, sourceBytes, parts }: StoredRows,
  encoder: RowEncoder,
  { place }: StreamOptions,
): EncodedRows {
  const rows = { label: tensor.label, firstRow, sourceBytes };
  if (parts.length === 0) return { ...rows, sections: [] };
  const count = parts.reduce((sum, part) => sum + part.count, 0);
  const inPlace = parts.length > 1 ? place?.(tensor, firstRow, count) : undefined;
  const sections = encoder.encode(parts, tensor.dtype, inPlace);
  return { ...rows, sections: inPlace ? [] : sections };
}

/** The rows of a tensor's sources, piece by piece. */
async function* storedRows(tensor: PlannedTensor, origin: Origin): AsyncGenerator<StoredRows, void, void> {
  let first = 0;
  for (const group of readTogether(tensor, origin.source)) {
    const { pieces } = origin.source;
    const arePieces = pieces && group.every(({ name }) => pieces.has(name));
    yield* arePieces
      ? rowsOfPieces(tensor, group, first, pieces, origin)
      : rowsFromEndToEnd(tensor, group, first, origin);
    first += group.reduce((sum, { shape }) => sum + shape[0]!, 0);
  }
}

/**
 * Pieces of a tensor that are read at a time; where tensors take turns, of each of them. More serve where they take no
 * buffers: while one is rounded enough are left for the threads that read.
 */
const mostPieces = { inBuffers: { alone: 3, inTurn: 2 }, inAll: { alone: 5, inTurn: 3 } } as const;

/** Rows that can be read anywhere: several pieces are read at the same time. */
async function* rowsOfPieces(
  tensor: PlannedTensor,
  group: readonly TensorInfo[],
  base: number,
  pieces: PieceSource,
  { encoder, options: { signal, place, roundInPlace } }: Origin,
): AsyncGenerator<StoredRows, void, void> {
  const rows = pieceRows(tensor, group);
  const height = group[0]!.shape[0]!;
  const stayAsTheyAre = group.every(({ dtype }) => isSame(dtype as FloatDType, tensor.dtype));
  const areRounded = roundInPlace && tensor.dtype === 'f16' && group.every(({ dtype }) => dtype === 'BF16');
  const begin = (first: number) => {
    signal?.throwIfAborted();
    const count = Math.min(rows, height - first);
    const firstRow = base + first * group.length;
    const [inPlace] = ((stayAsTheyAre || areRounded) && place?.(tensor, firstRow, count * group.length)) || [];
    const buffers = inPlace ? [] : group.map(() => encoder.take());
    const parts = buffers.map((buffer, i) => {
      const { name, dtype } = group[i]!;
      const bytes = buffer.subarray(0, count * rowBytesOf(tensor, group[i]!));
      return { name, count, dtype: dtype as FloatDType, bytes };
    });
    const reads = group.map((info, i) => {
      const rowBytes = rowBytesOf(tensor, info);
      const targets = inPlace ? rowsInTurn(inPlace, rowBytes, i, group.length) : [parts[i]!.bytes];
      return pieces.read(info.name, first * rowBytes, targets);
    });
    const sourceBytes = group.reduce((sum, info) => sum + bytesUpTo(info, first + count) - bytesUpTo(info, first), 0);
    const stored = { firstRow, sourceBytes, parts };
    const done = Promise.all(reads);
    // Awaited when its turn comes; until then a failure must not count as unhandled.
    done.catch(() => {});
    return { stored, inPlace, buffers, reads, done };
  };
  const kind = group.length === 1 ? 'alone' : 'inTurn';
  const pending: ReturnType<typeof begin>[] = [];
  const mayBegin = () =>
    pending.length < mostPieces.inAll[kind] &&
    pending.filter(({ inPlace }) => !inPlace).length < mostPieces.inBuffers[kind];
  let next = 0;
  try {
    for (;;) {
      for (; next < height && mayBegin(); next += rows) pending.push(begin(next));
      const [current] = pending;
      if (!current) return;
      await current.done;
      const beyond = areRounded && current.inPlace ? roundInPlace(current.inPlace) : undefined;
      if (beyond !== undefined) throw beyondF16(group[Math.floor(beyond / widthOf(tensor)) % group.length]!.name);
      yield current.stored;
      encoder.give(current.buffers);
      pending.shift();
    }
  } finally {
    // A buffer that is still being filled must not go to another reader.
    await Promise.allSettled(pending.flatMap(({ reads }) => reads));
    for (const { buffers } of pending) encoder.give(buffers);
  }
}

/** Of the rows of several tensors that take turns, those of one; together where they are neighbours. */
function rowsInTurn(rows: Uint8Array, rowBytes: number, turn: number, of: number): Uint8Array[] {
  if (of === 1) return [rows];
  return Array.from({ length: rows.length / rowBytes / of }, (_, row) => {
    const begin = (row * of + turn) * rowBytes;
    return rows.subarray(begin, begin + rowBytes);
  });
}

/** Rows of tensors that only come in their order, a piece of each at a time. */
async function* rowsFromEndToEnd(
  tensor: PlannedTensor,
  group: readonly TensorInfo[],
  base: number,
  { source, options: { signal } }: Origin,
): AsyncGenerator<StoredRows, void, void> {
  const rows = pieceRows(tensor, group);
  const readers = group.map((info) => partsOf(tensor, info, rows, source, signal));
  let done = 0;
  try {
    for (;;) {
      const results = await Promise.all(readers.map((reader) => reader.next()));
      const parts = results.flatMap(({ value }) => (value ? [value] : []));
      if (parts.length < readers.length) return;
      const { count } = parts[0]!;
      const sourceBytes = group.reduce((sum, info) => sum + bytesUpTo(info, done + count) - bytesUpTo(info, done), 0);
      yield { firstRow: base + done * group.length, sourceBytes, parts };
      done += count;
    }
  } finally {
    await Promise.all(readers.map((reader) => reader.return()));
  }
}

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
): AsyncGenerator<SourceRows, void, void> {
  const { name, dtype } = info as TensorInfo & { readonly dtype: FloatDType };
  const options = signal ? { signal } : {};
  if (isQuantised(tensor.dtype) && source.blocks?.dtypeOf(name) === tensor.dtype) {
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
