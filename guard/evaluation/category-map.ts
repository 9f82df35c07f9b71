import * as z from 'zod';
import { EvaluationError } from '../errors.ts';
import type { Policy } from '../policy.ts';

/** From a data set's labels to codes of a policy, one, several or none. */
export type CategoryMap = ReadonlyMap<string, readonly string[]>;

const schema = z.record(z.string(), z.union([z.string(), z.array(z.string()), z.null()]));

export interface MapOptions {
  readonly policy: Pick<Policy, 'categories'>;
  readonly vocabulary?: readonly string[];
  readonly lineOf?: (label: string) => number | undefined;
}

/**
 * Checks a map that came as JSON: `{"S": "O2", "V": ["O1", "O4"], "HR": null}`; null leaves a label out.
 *
 * @param source what the error message begins with: the file's name
 * @param vocabulary the labels of the data set, where they are known
 * @param lineOf the line of a label in its file, for error messages
 * @throws EvaluationError `map-invalid`; `category-unknown` for a code that the policy, or a label that the set, has not
 */
export function parseCategoryMap(
  json: unknown,
  source: string,
  { policy, vocabulary, lineOf }: MapOptions,
): CategoryMap {
  const at = (label: PropertyKey | undefined) => {
    const line = label === undefined ? undefined : lineOf?.(String(label));
    return line === undefined ? source : `${source}, line ${line}`;
  };
  const result = schema.safeParse(json);
  if (!result.success) {
    const fields = result.error.issues.map(({ path }) => (path.length > 0 ? JSON.stringify(path[0]) : 'the map'));
    throw new EvaluationError(
      'map-invalid',
      `${at(result.error.issues[0]!.path[0])}: ${[...new Set(fields)].join(', ')}: expected {"label": "code" | ["code", ...] | null, ...}`,
    );
  }
  const known = new Set(policy.categories.map(({ code }) => code));
  const map = new Map<string, readonly string[]>();
  for (const [label, value] of Object.entries(result.data)) {
    if (vocabulary !== undefined && !vocabulary.includes(label)) {
      throw unknown(at(label), `the data has no label ${JSON.stringify(label)}`, vocabulary);
    }
    const codes = value === null ? [] : [value].flat();
    const stranger = codes.find((code) => !known.has(code));
    if (stranger !== undefined) {
      const problem = `${JSON.stringify(label)} is mapped to ${JSON.stringify(stranger)}, which the policy has not`;
      throw unknown(at(label), problem, [...known]);
    }
    map.set(label, codes);
  }
  return map;
}

const unknown = (source: string, problem: string, choices: readonly string[]) =>
  new EvaluationError('category-unknown', `${source}: ${problem}; it has ${choices.join(', ')}`);
