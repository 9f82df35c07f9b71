import type { Role } from '../../messages.ts';
import type { Fields } from './fields.ts';
import type { Label } from './label.ts';

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
