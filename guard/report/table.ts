/** What is shown of a result, on the terminal and on a page alike. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes: readonly string[];
}

/** A number, perhaps with its interval or as a percentage, or nothing. */
const figurePattern = /^(?:[-+]?\d[\d.,]*(?:e[-+]?\d+)?%?(?: \[[-+\d., ]+\])?|–)?$/i;

/** Which columns hold figures alone: those are set flush right. */
export const figureColumns = ({ columns, rows }: Pick<Table, 'columns' | 'rows'>): readonly boolean[] =>
  columns.map((_, i) => rows.some((cells) => cells[i] !== '') && rows.every((cells) => figurePattern.test(cells[i]!)));
