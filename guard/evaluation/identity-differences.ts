import type { System } from './questions.ts';
import type { Run } from './run.ts';

type Value = string | number | boolean | null;

/** Something that is not the same of two systems; undefined where one has nothing of the kind. */
export interface IdentityDifference {
  /** As in "dtype", "hashes.policy" or "options.categories". */
  readonly field: string;
  readonly before: Value | undefined;
  readonly after: Value | undefined;
}

interface Whole {
  readonly run: Run;
  readonly system: System;
}

/** Where two systems, what their scores depend on, and their data differ. */
export function identityDifferences(before: Whole, after: Whole): IdentityDifference[] {
  const [one, other] = [fieldsOf(before), fieldsOf(after)];
  return [...new Set([...one.keys(), ...other.keys()])]
    .map((field) => ({ field, before: one.get(field), after: other.get(field) }))
    .filter(({ before, after }) => before !== after);
}

function fieldsOf({ run, system }: Whole): Map<string, Value> {
  const { name, threshold, thresholds } = system;
  return new Map(leaves({ system: name, threshold: thresholds ?? threshold, ...run.identity, data: run.data }));
}

const leaves = (value: unknown, field = ''): [string, Value][] =>
  typeof value === 'object' && value !== null
    ? Object.entries(value).flatMap(([key, own]) => leaves(own, field === '' ? key : `${field}.${key}`))
    : [[field, value as Value]];

/** The differences in a line for people. */
export function describeDifferences(differences: readonly IdentityDifference[]): string {
  if (differences.length === 0) return 'Nothing differs: the same system, on the same data.';
  const shown = (value: Value | undefined) => {
    if (value === undefined || value === null) return 'none';
    return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value) ? value.slice(0, 12) : String(value);
  };
  const told = differences.map(({ field, before, after }) => `${field} ${shown(before)} → ${shown(after)}`);
  return `What differs: ${told.join('; ')}`;
}
