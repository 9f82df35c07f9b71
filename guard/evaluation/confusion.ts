import type { Row, Run } from './run.ts';

/** Which categories the guard takes for which. */
export interface CategoryConfusion {
  /** `safe`, then the codes. */
  readonly names: readonly string[];
  /** `counts[labelled][named]`: a sample counts once for each category that it is labelled with. */
  readonly counts: readonly (readonly number[])[];
}

/**
 * What samples are labelled with against what they are named: `safe` below the threshold, else the category of the highest
 * score. Null where no sample has category scores and labels.
 */
export function categoryConfusion({ rows, categories, threshold }: Run): CategoryConfusion | null {
  const names = ['safe', ...categories.map(({ code }) => code)];
  const counts = names.map(() => names.map(() => 0));
  const place = new Map(names.map((name, i) => [name, i]));
  for (const row of rows) {
    const named = namedCategory(row, threshold);
    if (named === undefined) continue;
    for (const label of labelsOf(row)) counts[place.get(label)!]![place.get(named)!]!++;
  }
  return counts.flat().some((count) => count > 0) ? { names, counts } : null;
}

function namedCategory({ score, categoryScores }: Row, threshold: number): string | undefined {
  if (categoryScores === undefined) return undefined;
  if (score < threshold) return 'safe';
  return Object.entries(categoryScores).reduce((a, b) => (b[1] > a[1] ? b : a))[0];
}

const labelsOf = ({ unsafe, categories }: Row): string[] =>
  unsafe === 0 ? ['safe'] : Object.keys(categories).filter((code) => categories[code] === 1);
