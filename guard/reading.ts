import { type OrderSpread, spreadOf } from './orders.ts';
import type { Policy } from './policy.ts';
import type { Assessment, Disguise, Excerpt, Score } from './score.ts';

/** A conversation read under one order of the categories. */
export interface Reading extends Score, Pick<Assessment, 'windows' | 'tokens'> {
  /** Scores of the categories, where they were asked for. */
  readonly byCode: ReadonlyMap<string, number> | undefined;
  readonly worstWindow: Excerpt | undefined;
  readonly disguise: Disguise | undefined;
}

/** The mean of readings that differ in the order of the categories; a single one as it is. */
export function averageOf(
  { categories }: Policy,
  readings: readonly Reading[],
): Reading & { readonly orders?: OrderSpread } {
  const [first] = readings as [Reading];
  if (readings.length === 1) return first;
  const over = (numberOf: (reading: Reading) => number) => spreadOf(readings.map(numberOf));
  const { mean: score, spread } = over((reading) => reading.score);
  const scored = readings.filter(({ byCode }) => byCode);
  const byCode = categories.map(({ code }) => ({
    code,
    ...spreadOf(scored.map((reading) => reading.byCode!.get(code)!)),
  }));
  const total = (numberOf: (reading: Reading) => number) =>
    readings.reduce((sum, reading) => sum + numberOf(reading), 0);
  return {
    score,
    unsafeProbability: over((reading) => reading.unsafeProbability).mean,
    mass: over((reading) => reading.mass).mean,
    ...(first.forced === undefined ? {} : { forced: over((reading) => reading.forced!).mean }),
    ...(first.labels ? { labels: meanOf(readings.map(({ labels }) => labels!)) } : {}),
    byCode: scored.length > 0 ? new Map(byCode.map(({ code, mean }) => [code, mean])) : undefined,
    windows: first.windows,
    worstWindow: first.worstWindow,
    disguise: first.disguise && {
      written: over(({ disguise }) => disguise!.written).mean,
      normalised: over(({ disguise }) => disguise!.normalised).mean,
    },
    tokens: { prompt: total(({ tokens }) => tokens.prompt), cached: total(({ tokens }) => tokens.cached) },
    orders: {
      count: readings.length,
      score: spread,
      categories: scored.length > 1 ? byCode.map(({ code, spread }) => ({ code, ...spread })) : [],
    },
  };
}

const meanOf = (all: readonly Readonly<Record<string, number>>[]): Record<string, number> =>
  Object.fromEntries(Object.keys(all[0]!).map((name) => [name, spreadOf(all.map((each) => each[name]!)).mean]));
