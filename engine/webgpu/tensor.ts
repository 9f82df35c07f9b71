import { type DType, storedBytes } from '../../kernels/contract.ts';
import { ContractError } from '../../kernels/errors.ts';
import type { Tensor } from '../backend.ts';

/** Storage buffers are read as vectors of up to sixteen bytes. */
const alignment = 16;

/** A run of a tensor's rows that lies in one buffer. */
export interface RowBlock {
  readonly buffer: GPUBuffer;
  readonly firstRow: number;
  readonly rows: number;
}

/** A tensor in device memory: one buffer, or several where a single one would exceed what a shader can bind. */
export class DeviceTensor implements Tensor {
  readonly label: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly blocks: readonly RowBlock[];
  readonly #destroy: (buffer: GPUBuffer) => void;

  constructor(
    label: string,
    dtype: DType,
    shape: readonly number[],
    blocks: readonly RowBlock[],
    destroy: (buffer: GPUBuffer) => void,
  ) {
    this.label = label;
    this.dtype = dtype;
    this.shape = shape;
    this.blocks = blocks;
    this.#destroy = destroy;
  }

  /** Also under another dtype: storage that is larger than its tensor is allocated as plain words. */
  view(shape: readonly number[], dtype: DType = this.dtype): DeviceTensor {
    if (this.blocks.length > 1 || storedBytes(dtype, shape) > this.blocks[0]!.buffer.size) {
      throw new ContractError(
        'shape-mismatch',
        `'${this.label}' of shape (${this.shape.join(', ')}) has no view of shape (${shape.join(', ')}).`,
      );
    }
    return new DeviceTensor(this.label, dtype, shape, this.blocks, this.#destroy);
  }

  /** The rows of one block as a tensor. */
  block({ buffer, rows }: RowBlock): DeviceTensor {
    const only = [{ buffer, firstRow: 0, rows }];
    return new DeviceTensor(this.label, this.dtype, [rows, ...this.shape.slice(1)], only, this.#destroy);
  }

  get bytes(): number {
    return storedBytes(this.dtype, this.shape);
  }

  [Symbol.dispose](): void {
    for (const { buffer } of this.blocks) this.#destroy(buffer);
  }
}

/**
 * Cuts rows into blocks of at most `largest` bytes, each stored as a tensor of its own. Every block but the last has an
 * even number of rows, so that it ends on four bytes.
 */
export function planBlocks(
  dtype: DType,
  shape: readonly number[],
  largest: number,
): { firstRow: number; rows: number; size: number }[] {
  const [rows = 1, ...rest] = shape;
  const padded = (bytes: number) => Math.max(alignment, Math.ceil(bytes / alignment) * alignment);
  const whole = storedBytes(dtype, shape);
  if (whole <= largest) return [{ firstRow: 0, rows, size: padded(whole) }];
  const perBlock = Math.floor(largest / storedBytes(dtype, [2, ...rest])) * 2;
  if (perBlock === 0)
    throw new ContractError('shape-mismatch', `Two rows of (${shape.join(', ')}) exceed one binding.`);
  return Array.from({ length: Math.ceil(rows / perBlock) }, (_, i) => {
    const count = Math.min(perBlock, rows - i * perBlock);
    return { firstRow: i * perBlock, rows: count, size: padded(storedBytes(dtype, [count, ...rest])) };
  });
}
