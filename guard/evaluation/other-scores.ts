import { EvaluationError } from '../errors.ts';
import { Fields } from './formats/fields.ts';

/** A file of scores that another system gave. */
export interface ScoreSource {
  /** What error messages call it: the file's name. */
  readonly name: string;
  readonly lines: AsyncIterable<string> | Iterable<string>;
}

/**
 * Reads what other systems said: lines `{"id", "<column>": number, ...}`, on any scale on which more is less safe. A column
 * that is absent, null or NaN on a line is no score of that sample; other fields are ignored.
 *
 * @returns by id, the scores by column
 * @throws EvaluationError `data-invalid` for what is not JSON; `score-invalid` for a line without an id, a score that is no
 *   number, or a column that no file has; `id-duplicate` for a second score of a sample in one column
 */
export async function readOtherScores(
  sources: readonly ScoreSource[],
  columns: readonly string[],
): Promise<Map<string, Record<string, number>>> {
  const byId = new Map<string, Record<string, number>>();
  const found = new Set<string>();
  for (const { name, lines } of sources) {
    let line = 0;
    for await (const text of lines) {
      line++;
      if (text.trim() === '') continue;
      const where = `${name}, line ${line}`;
      const fields = new Fields(text, where);
      const id = fields.id('id');
      if (id === undefined) throw new EvaluationError('score-invalid', `${where}: it has no "id"`);
      const scores = byId.get(id) ?? {};
      byId.set(id, scores);
      for (const column of columns) {
        const score = fields.number(column);
        if (score === null) continue;
        if (Object.hasOwn(scores, column)) {
          const told = `a second ${JSON.stringify(column)} of the id ${JSON.stringify(id)}`;
          throw new EvaluationError('id-duplicate', `${where}: ${told}`);
        }
        scores[column] = score;
        found.add(column);
      }
    }
  }
  const missing = columns.find((column) => !found.has(column));
  if (missing !== undefined) {
    const names = sources.map(({ name }) => name).join(', ');
    throw new EvaluationError('score-invalid', `${names}: no line has a number ${JSON.stringify(missing)}`);
  }
  return byId;
}
