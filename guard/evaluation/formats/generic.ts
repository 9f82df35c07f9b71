import { parseRole } from '../../conversation.ts';
import { EvaluationError } from '../../errors.ts';
import type { Fields } from './fields.ts';
import type { Format, LabelledLine } from './format.ts';
import type { Label } from './label.ts';

/**
 * This project's own lines: `{"id"?, "messages", "role"?, "unsafe": 0 | 1 | null, "categories"?: [codes]}`. A list of
 * categories names all that are violated.
 */
export const generic: Format = {
  read(fields) {
    const messages = fields.get('messages');
    if (messages === undefined) {
      throw new EvaluationError('data-invalid', `${fields.where}: it has no "messages"`);
    }
    const role = fields.get('role') ?? undefined;
    return {
      id: fields.id('id'),
      messages,
      ...(role === undefined ? {} : { role: parseRole(role, '"role"') }),
      ...verdictAndNames(fields, fields.label('unsafe'), fields.names('categories')),
    };
  },
};

/**
 * What a verdict and a list of violated categories say of the categories.
 * @throws EvaluationError `label-invalid` for a safe line that names categories
 */
export function verdictAndNames(
  { where }: Fields,
  unsafe: Label | null,
  names: readonly string[] | undefined,
): Pick<LabelledLine, 'unsafe' | 'labels' | 'others'> {
  if (unsafe === 0 && names !== undefined && names.length > 0) {
    throw new EvaluationError('label-invalid', `${where}: it is labelled safe and names ${names.join(', ')}`);
  }
  const violated = names !== undefined && names.length > 0;
  // What is unsafe and names nothing is unsafe in a way that was not written down.
  const told = unsafe === 0 || violated || (names !== undefined && unsafe === null);
  return { unsafe: violated ? 1 : unsafe, labels: new Map(names?.map((name) => [name, 1])), others: told ? 0 : null };
}
