import type { Ceilings } from './schema.ts';

/**
 * The roofline model (Williams, Waterman and Patterson, CACM 2009): a kernel that does `flops` operations on `bytes`
 * moved is bound by arithmetic or by memory, whichever is reached first.
 */
export interface Roof {
  /** GFLOP/s. */
  readonly peak: number;
  /** GB/s. */
  readonly bandwidth: number;
}

/** What binds kernels whose operands are f32, or narrower too: these may use the device's fastest arithmetic. */
export function roofOf({ bandwidth, arithmetic }: Ceilings, narrow: boolean): Roof {
  const eligible = arithmetic.filter(({ name }) => narrow || name === 'f32');
  return {
    peak: Math.max(...eligible.map(({ gflops }) => gflops)),
    bandwidth: Math.max(bandwidth.kernel, bandwidth.buffer),
  };
}

/** GFLOP/s that can be reached at an intensity of so many operations a byte. */
export const attainable = ({ peak, bandwidth }: Roof, intensity: number): number =>
  Math.min(peak, intensity * bandwidth);

/** The least milliseconds that the work can take. */
export const leastMilliseconds = ({ peak, bandwidth }: Roof, flops: number, bytes: number): number =>
  Math.max(flops / peak, bytes / bandwidth) / 1e6;
