import type { Role } from '../../messages.ts';
import type { Fields } from './fields.ts';

/** Whether something holds: yes or no. What is not known is `null`, or absent from a map; it is never 0. */
export type Label = 0 | 1;

/** A line of a data set in the set's own labels. */
export interface LabelledLine {
  readonly id?: string | undefined;
  /** Messages or a single text; checked by `readSamples`. */
  readonly messages: unknown;
  readonly role?: Role;
  readonly unsafe: Label | null;
  readonly labels: ReadonlyMap<string, Label>;
  /** What is known of a label that is not in `labels`: 0 where the line names all that apply, null otherwise. */
  readonly others: 0 | null;
}

/** How the lines of a public data set are read. */
export interface Format {
  /** The labels of the set; absent where lines name labels freely. */
  readonly vocabulary?: readonly string[];
  /**
   * @param role whose messages will be judged, where that is set for all lines
   * @throws EvaluationError `data-invalid`, `label-invalid`, naming line and field
   */
  read(fields: Fields, role: Role | undefined): LabelledLine;
}

/** Whether any of several labels holds: known as soon as one does, or all are known not to. */
export function anyOf(labels: readonly (Label | null)[]): Label | null {
  if (labels.includes(1)) return 1;
  return labels.includes(null) ? null : 0;
}
