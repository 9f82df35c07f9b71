/**
 * p-values of a family of tests, adjusted so that the chance of calling any true null hypothesis false is bounded by the
 * level at which they are read, however the tests depend on each other (Holm 1979, "A simple sequentially rejective
 * multiple test procedure"; as R's `p.adjust`).
 */
export function holm(pValues: readonly number[]): number[] {
  const rising = pValues.map((_, i) => i).sort((a, b) => pValues[a]! - pValues[b]!);
  const adjusted = pValues.map(() => 1);
  let least = 0;
  for (const [rank, i] of rising.entries()) {
    least = Math.max(least, Math.min(1, (pValues.length - rank) * pValues[i]!));
    adjusted[i] = least;
  }
  return adjusted;
}
