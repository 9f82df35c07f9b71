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

/** What binds kernels on tensors of these dtypes: they may use the fastest arithmetic that serves one of them. */
export function roofOf({ bandwidth, arithmetic }: Ceilings, dtypes: readonly string[]): Roof {
  const eligible = arithmetic.filter((kind) => dtypes.some((dtype) => kind.dtypes.includes(dtype)));
  return {
    peak: Math.max(...eligible.map(({ gflops }) => gflops)),
    bandwidth: bandwidthOf({ bandwidth }),
  };
}

/** The best way through memory, in GB/s. */
export const bandwidthOf = ({ bandwidth }: Pick<Ceilings, 'bandwidth'>): number =>
  Math.max(...bandwidth.map(({ gigabytesPerSecond }) => gigabytesPerSecond));

/** GFLOP/s that can be reached at an intensity of so many operations a byte. */
export const attainable = ({ peak, bandwidth }: Roof, intensity: number): number =>
  Math.min(peak, intensity * bandwidth);

/** The least milliseconds that the work can take. */
export const leastMilliseconds = ({ peak, bandwidth }: Roof, flops: number, bytes: number): number =>
  Math.max(flops / peak, bytes / bandwidth) / 1e6;
