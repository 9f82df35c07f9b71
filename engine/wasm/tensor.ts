import type { DType } from '../../kernels/contract.ts';
import type { Tensor } from '../backend.ts';
import { type Lifetime, StoredTensor, usable } from '../stored.ts';

/** A block of a WebAssembly memory. */
interface Block {
  readonly address: number;
  /** Of the whole allocation, in bytes; a view may use less. */
  readonly capacity: number;
  readonly lifetime: Lifetime;
}

/** A tensor in a WebAssembly memory. */
export class LinearTensor extends StoredTensor implements Block {
  readonly address: number;
  readonly capacity: number;

  constructor(label: string, dtype: DType, shape: readonly number[], block: Block, isView = false) {
    super(label, dtype, shape, block.lifetime, isView);
    this.address = block.address;
    this.capacity = block.capacity;
  }

  view(shape: readonly number[], dtype: DType = this.dtype): LinearTensor {
    this.assertHasView(shape, dtype, this.capacity);
    return new LinearTensor(this.label, dtype, shape, this, true);
  }
}

/** @throws ContractError; SessionError `disposed` */
export const asLinearTensor = (tensor: Tensor): LinearTensor => usable(LinearTensor, tensor);
