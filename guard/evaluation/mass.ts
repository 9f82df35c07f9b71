import type { Row } from './run.ts';

/** How far the model answers with a verdict at all. */
export interface Mass {
  /** The median of safe + unsafe over the whole vocabulary, by nearest rank. */
  readonly median: number;
  /** The share of samples of which it is below a half: something else is the likelier answer. */
  readonly low: number;
}

/** `null` of no rows. */
export function massOf(rows: readonly Pick<Row, 'mass'>[]): Mass | null {
  if (rows.length === 0) return null;
  const sorted = rows.map(({ mass }) => mass).sort((a, b) => a - b);
  return {
    median: sorted[Math.ceil(sorted.length / 2) - 1]!,
    low: sorted.filter((mass) => mass < 0.5).length / sorted.length,
  };
}
