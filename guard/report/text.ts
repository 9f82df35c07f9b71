import CliTable from 'cli-table3';
import { figureColumns, type Table } from './table.ts';

/** A table as text for a terminal. */
export function renderText(content: Table): string {
  const { title, columns, rows, notes } = content;
  const table = new CliTable({
    head: [...columns],
    colAligns: figureColumns(content).map((figures) => (figures ? 'right' : 'left')),
    style: { head: [], border: [], compact: true },
  });
  for (const row of rows) table.push([...row]);
  return [`\n${title}`, table.toString(), ...notes].join('\n');
}
