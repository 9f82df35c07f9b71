import { type DType, storedBytes } from '../../kernels/contract.ts';
import { ContractError } from '../../kernels/errors.ts';
import type { Tensor } from '../backend.ts';

/** A tensor in a WebAssembly memory. */
export class LinearTensor implements Tensor {
  readonly label: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly address: number;
  /** Of the whole allocation; a view may use less. */
  readonly capacity: number;
  readonly #free: () => void;

  constructor(
    label: string,
    dtype: DType,
    shape: readonly number[],
    storage: { readonly address: number; readonly capacity: number; readonly free: () => void },
  ) {
    this.label = label;
    this.dtype = dtype;
    this.shape = shape;
    this.address = storage.address;
    this.capacity = storage.capacity;
    this.#free = storage.free;
  }

  get bytes(): number {
    return storedBytes(this.dtype, this.shape);
  }

  view(shape: readonly number[], dtype: DType = this.dtype): LinearTensor {
    const { label, address, capacity } = this;
    if (storedBytes(dtype, shape) > capacity) {
      throw new ContractError(
        'shape-mismatch',
        `'${label}' of shape (${this.shape.join(', ')}) has no view of shape (${shape.join(', ')}).`,
      );
    }
    return new LinearTensor(label, dtype, shape, { address, capacity, free: this.#free });
  }

  [Symbol.dispose](): void {
    this.#free();
  }
}

export function asLinearTensor(tensor: Tensor): LinearTensor {
  if (tensor instanceof LinearTensor) return tensor;
  throw new ContractError('shape-mismatch', `'${tensor.label}' does not live on this device.`);
}
