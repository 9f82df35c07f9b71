import { EvaluationError } from '../errors.ts';
import { Fields } from './formats/fields.ts';

/**
 * Reads what other systems said: lines `{"id", "<column>": number, ...}`. A column that is absent, null or NaN on a line is
 * no score of that sample; other fields are ignored.
 *
 * @param source what the error message begins with: the file's name
 * @returns by id, the scores by column
 * @throws EvaluationError `data-invalid` for what is not JSON; `score-invalid` for a line without an id, a score that is no
 *   number, or a column that no line has; `id-duplicate`
 */
export async function readOtherScores(
  lines: AsyncIterable<string> | Iterable<string>,
  columns: readonly string[],
  source: string,
): Promise<Map<string, Record<string, number>>> {
  const byId = new Map<string, Record<string, number>>();
  const lineOfId = new Map<string, number>();
  let line = 0;
  for await (const text of lines) {
    line++;
    if (text.trim() === '') continue;
    const where = `${source}, line ${line}`;
    const fields = new Fields(text, where);
    const id = fields.id('id');
    if (id === undefined) throw new EvaluationError('score-invalid', `${where}: it has no "id"`);
    const earlier = lineOfId.get(id);
    if (earlier !== undefined) {
      throw new EvaluationError('id-duplicate', `${where}: the id ${JSON.stringify(id)} is that of line ${earlier}`);
    }
    lineOfId.set(id, line);
    const told = columns.map((column) => [column, fields.number(column)] as const);
    byId.set(id, Object.fromEntries(told.filter((entry): entry is [string, number] => entry[1] !== null)));
  }
  const missing = columns.find((column) => ![...byId.values()].some((scores) => Object.hasOwn(scores, column)));
  if (missing !== undefined) {
    throw new EvaluationError('score-invalid', `${source}: no line has a number ${JSON.stringify(missing)}`);
  }
  return byId;
}
