import { type DType, storedBytes } from '../../kernels/contract.ts';
import { ContractError } from '../../kernels/errors.ts';
import { type Lifetime, StoredTensor } from '../stored.ts';

/** Storage buffers are read as vectors of up to sixteen bytes. */
const alignment = 16;

/** A run of a tensor's rows that lies in one buffer. */
export interface RowBlock {
  readonly buffer: GPUBuffer;
  readonly firstRow: number;
  readonly rows: number;
}

/** Memory of a device. */
interface Storage {
  readonly blocks: readonly RowBlock[];
  readonly lifetime: Lifetime;
}

/** A tensor in device memory: one buffer, or several where a single one would exceed what a shader can bind. */
export class DeviceTensor extends StoredTensor implements Storage {
  readonly blocks: readonly RowBlock[];

  constructor(label: string, dtype: DType, shape: readonly number[], storage: Storage, isView = false) {
    super(label, dtype, shape, storage.lifetime, isView);
    this.blocks = storage.blocks;
  }

  /** Also under another dtype: storage that is larger than its tensor is allocated as plain words. */
  view(shape: readonly number[], dtype: DType = this.dtype): DeviceTensor {
    this.assertHasView(shape, dtype, this.blocks.length > 1 ? 0 : this.blocks[0]!.buffer.size);
    return new DeviceTensor(this.label, dtype, shape, this, true);
  }

  /** The buffer that has all of it. @throws ContractError where several have */
  get buffer(): GPUBuffer {
    if (this.blocks.length === 1) return this.blocks[0]!.buffer;
    throw new ContractError('shape-mismatch', `'${this.label}' is in several buffers.`);
  }

  /** The rows of one block as a tensor. */
  block({ buffer, rows }: RowBlock): DeviceTensor {
    const { label, dtype, shape, lifetime } = this;
    const blocks = [{ buffer, firstRow: 0, rows }];
    return new DeviceTensor(label, dtype, [rows, ...shape.slice(1)], { blocks, lifetime }, true);
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
