import { type DType, f32, operation, read, u32, write } from '../kernels/contract.ts';
import type { AnyWasmVariant } from '../kernels/wasm/kernel.ts';
import type { AnyVariant } from '../kernels/webgpu.ts';

/** One way to compute an operation, on whichever device. */
export type Kernel = AnyVariant | AnyWasmVariant;

/** A limit has no cases: nothing of it is verified, and nothing serves but to find it. */
const limit = { flops: () => 0, cases: [], benchmarks: [], tolerance: 0 } as const;

export const copying = operation({
  ...limit,
  name: 'copying',
  formula: 'out[i] = x[i]',
  tensors: { x: read('f32', 'elements'), out: write('f32', 'elements') },
  scalars: {},
});

/** Kernels that mostly read, as those of one row do, are faster than a copy: a written line of a cache is read first. */
export const reading = operation({
  ...limit,
  name: 'reading',
  formula: 'out[0] = a sum over x, if it is larger than bound; none is, but compilers cannot know',
  tensors: { x: read('f32', 'elements'), out: write('f32', 1) },
  scalars: { bound: f32() },
});

export const multiplyAdd = operation({
  ...limit,
  name: 'multiply-add',
  formula: 'x = x * factor + addend, again and again',
  tensors: { out: write('f32', 'invocations') },
  // The bound is a parameter, so that compilers neither unroll nor fold the loop.
  scalars: { rounds: u32(), factor: f32(), addend: f32() },
});

/** A loop of nothing but arithmetic, on chains that do not wait for each other. */
export interface ArithmeticLoop<K extends Kernel> {
  /** What is multiplied; of several loops of one name the best counts. */
  readonly name: string;
  /** What may be multiplied so: the dtypes of a kernel's tensors, of which one is enough. */
  readonly dtypes: readonly DType[];
  readonly variant: K;
  /** Operations of an invocation in a round. */
  readonly flopsPerRound: number;
}

/** The kernels that find a device's limits. */
export interface LimitKernels<K extends Kernel> {
  readonly copying: K;
  readonly reading: K;
  /** Another kind of arithmetic that a device may have is an entry here. */
  readonly arithmetic: readonly ArithmeticLoop<K>[];
  readonly invocations: number;
  readonly rounds: number;
}
