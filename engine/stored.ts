import { type DType, storedBytes } from '../kernels/contract.ts';
import { ContractError } from '../kernels/errors.ts';
import type { Recording, Tensor } from './backend.ts';
import { SessionError } from './errors.ts';

/** How long something may be used: until it is disposed, or something that it uses is. */
export class Lifetime {
  readonly #name: string;
  readonly #uses: readonly Lifetime[];
  #end: (() => void) | undefined;

  /** @param end frees what it is of */
  constructor(name: string, end: () => void, uses: Iterable<Lifetime> = []) {
    this.#name = name;
    this.#uses = [...uses];
    this.#end = end;
  }

  /** @throws SessionError `disposed` */
  assertLasts(): void {
    if (!this.#end) throw new SessionError('disposed', `${this.#name} was disposed, and can be used no more.`);
    for (const used of this.#uses) used.assertLasts();
  }

  /** Idempotent. */
  end(): void {
    const end = this.#end;
    this.#end = undefined;
    end?.();
  }
}

/** A tensor as a backend keeps it. A view has the lifetime of what it shows, and does not end it. */
export abstract class StoredTensor implements Tensor {
  readonly label: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly lifetime: Lifetime;
  readonly #isView: boolean;

  constructor(label: string, dtype: DType, shape: readonly number[], lifetime: Lifetime, isView: boolean) {
    this.label = label;
    this.dtype = dtype;
    this.shape = shape;
    this.lifetime = lifetime;
    this.#isView = isView;
  }

  get bytes(): number {
    return storedBytes(this.dtype, this.shape);
  }

  abstract view(shape: readonly number[]): StoredTensor;

  [Symbol.dispose](): void {
    if (!this.#isView) this.lifetime.end();
  }

  /** @throws ContractError of a view that takes more than `capacity` bytes */
  protected assertHasView(shape: readonly number[], dtype: DType, capacity: number): void {
    if (storedBytes(dtype, shape) <= capacity) return;
    throw new ContractError(
      'shape-mismatch',
      `'${this.label}' of shape (${this.shape.join(', ')}) has no view of shape (${shape.join(', ')}).`,
    );
  }
}

/** The tensor, of a kind that a backend can use. @throws ContractError; SessionError `disposed` */
export function usable<T extends StoredTensor>(kind: abstract new (...given: never[]) => T, tensor: Tensor): T {
  if (!(tensor instanceof kind)) {
    throw new ContractError('shape-mismatch', `'${tensor.label}' does not live on this device.`);
  }
  tensor.lifetime.assertLasts();
  return tensor;
}

/** A recording as a backend keeps it. */
export class StoredRecording<Work> implements Recording {
  readonly operations: number;
  readonly #work: Work;
  readonly #lifetime: Lifetime;

  /**
   * @param work what is queued to replay it
   * @param free frees what was made for it
   * @param uses lifetimes of the tensors that its operations run on
   */
  constructor(operations: number, work: Work, free: () => void, uses: Iterable<Lifetime>) {
    this.operations = operations;
    this.#work = work;
    // A tensor occurs in many operations.
    this.#lifetime = new Lifetime('A recording', free, new Set(uses));
  }

  /** @throws SessionError `disposed` */
  get work(): Work {
    this.#lifetime.assertLasts();
    return this.#work;
  }

  [Symbol.dispose](): void {
    this.#lifetime.end();
  }
}
