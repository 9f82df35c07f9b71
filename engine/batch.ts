import { product } from '../kernels/contract.ts';
import type { Backend, Tensor } from './backend.ts';

/** New tokens of one sequence, and the ones among them whose next-token logits are wanted, by index. */
export interface SequencePart {
  readonly ids: readonly number[];
  /** Tokens of the sequence before them. */
  readonly firstPosition: number;
  /** Where the cache keeps each new token's key and value. */
  readonly slots: Uint32Array;
  /** (first slot, length) of the runs that hold the sequence up to the new tokens or further. */
  readonly spans: readonly (readonly [firstSlot: number, length: number])[];
  readonly wanted: readonly number[];
}

/** Most sequences, spans and wanted rows in one pass; larger batches take several. */
export const batchLimits = { sequences: 128, spans: 4096, wanted: 64 } as const;

/** A packed batch on the device: the new tokens of all its sequences one after another. */
export interface Batch {
  readonly ids: Tensor; // (tokens) u32
  readonly positions: Tensor; // (tokens) u32
  readonly slots: Tensor; // (tokens) u32, where the cache keeps each token's key and value
  readonly sequences: Tensor; // (sequences, 5) u32, see the attention kernel
  readonly spans: Tensor; // (spans, 2) u32
  readonly wanted: Tensor; // (wanted) u32, rows of the batch
  readonly wantedSequences: Tensor; // (wanted, 5) u32, each wanted row as a sequence of its own
  /** New tokens of the sequence that has most, or more. */
  readonly longest: number;
  /** Rows without the padding. */
  readonly count: Pick<BatchSizes, 'tokens' | 'wanted'>;
}

/** A slot that no cache has: the keys and values of rows that only pad a batch are not kept. */
const nowhere = 0xffff_ffff;

/** How many of everything a batch has, without padding. */
export type BatchSizes = Readonly<Record<'tokens' | 'sequences' | 'wanted' | 'longest', number>>;

type BatchTensors = Omit<Batch, 'longest' | 'count'>;

/** The device memory that batches are written into, planned once. */
export class BatchBuffers implements Disposable {
  readonly #backend: Backend;
  readonly #maxTokens: number;
  readonly #tensors: BatchTensors;

  constructor(backend: Backend, maxTokens: number) {
    const integers = (label: string, ...shape: number[]) => backend.allocate(label, 'u32', shape);
    this.#backend = backend;
    this.#maxTokens = maxTokens;
    this.#tensors = {
      ids: integers('ids', maxTokens),
      positions: integers('positions', maxTokens),
      slots: integers('slots', maxTokens),
      sequences: integers('sequences', batchLimits.sequences, 5),
      spans: integers('spans', batchLimits.spans, 2),
      wanted: integers('wanted', batchLimits.wanted),
      wantedSequences: integers('wanted sequences', batchLimits.wanted, 5),
    };
  }

  /**
   * Writes the batch to the device, padded by rows that nothing reads, sequences without rows and repeated wanted rows,
   * so that batches of few different shapes occur.
   */
  pack(parts: readonly SequencePart[]): Batch {
    const ids: number[] = [];
    const positions: number[] = [];
    const slots: number[] = [];
    const sequences: number[] = [];
    const spans: number[] = [];
    const wanted: number[] = [];
    const wantedSequences: number[] = [];
    for (const part of parts) {
      const firstRow = ids.length;
      const { firstPosition, spans: own } = part;
      slots.push(...part.slots);
      const context = [spans.length / 2, own.length] as const;
      sequences.push(firstRow, part.ids.length, firstPosition, ...context);
      for (const index of part.wanted) {
        wantedSequences.push(wanted.length, 1, firstPosition + index, ...context);
        wanted.push(firstRow + index);
      }
      spans.push(...own.flat());
      part.ids.forEach((id, i) => {
        ids.push(id);
        positions.push(firstPosition + i);
      });
    }
    const batch = this.shaped({
      tokens: ids.length,
      sequences: parts.length,
      wanted: wanted.length,
      longest: Math.max(...parts.map((part) => part.ids.length)),
    });
    const put = (tensor: Tensor, values: readonly number[], padding = 0) => {
      const padded = new Uint32Array(product(tensor.shape)).fill(padding);
      padded.set(values);
      this.#backend.write(tensor, padded);
    };
    put(batch.ids, ids);
    put(batch.positions, positions);
    put(batch.slots, slots, nowhere);
    put(batch.sequences, sequences);
    this.#backend.write(batch.spans, Uint32Array.from(spans));
    put(batch.wanted, wanted);
    put(batch.wantedSequences, wantedSequences);
    return batch;
  }

  /** A batch of these sizes, padded, with nothing in it yet. */
  shaped({ tokens, sequences, wanted, longest }: BatchSizes): Batch {
    const rows = (name: keyof BatchTensors, count: number) =>
      this.#tensors[name].view([count, ...this.#tensors[name].shape.slice(1)]);
    const padded = this.#padded(tokens);
    return {
      ids: rows('ids', padded),
      positions: rows('positions', padded),
      slots: rows('slots', padded),
      sequences: rows('sequences', powerOfTwo(sequences)),
      spans: this.#tensors.spans,
      wanted: rows('wanted', powerOfTwo(wanted)),
      wantedSequences: rows('wantedSequences', powerOfTwo(wanted)),
      longest: this.#padded(longest),
      count: { tokens, wanted },
    };
  }

  #padded(rows: number): number {
    return Math.min(this.#maxTokens, this.#backend.paddedRows(rows));
  }

  [Symbol.dispose](): void {
    for (const tensor of Object.values(this.#tensors)) tensor[Symbol.dispose]();
  }
}

const powerOfTwo = (count: number): number => (count === 0 ? 0 : 2 ** Math.ceil(Math.log2(count)));
