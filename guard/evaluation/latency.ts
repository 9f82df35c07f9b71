/** Milliseconds of checks: the median and the 95th percentile, both by nearest rank. */
export interface Latency {
  readonly median: number;
  readonly p95: number;
}

/** Null where there is no check. */
export function latencyOf(milliseconds: readonly number[]): Latency | null {
  if (milliseconds.length === 0) return null;
  const sorted = milliseconds.toSorted((a, b) => a - b);
  const nearestRank = (share: number) => sorted[Math.ceil(share * sorted.length) - 1]!;
  return { median: nearestRank(0.5), p95: nearestRank(0.95) };
}
