import { figureColumns, type Table } from './table.ts';

/** Text as HTML, in elements and in quoted attributes: names come from drivers and files. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const style = `
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin-bottom: 0.3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: 0.15rem 0.7rem; text-align: left; }
.figure { text-align: right; white-space: nowrap; }
.warning { border-left: 4px solid #c60; padding: 0.2rem 0.8rem; font-weight: 600; }
.scroll { overflow-x: auto; } figure { margin: 0.5rem 0; } p { margin: 0.3rem 0; overflow-wrap: anywhere; }
.plots figure div { font-size: 13px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0.5rem 2rem; }
@media print {
  :root { color-scheme: light; font-size: 11px; }
  body { margin: 0; }
  .scroll { overflow: visible; }
  .plots { grid-template-columns: 1fr 1fr; }
  tr, figure, .plots > * { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
`;

/** Sections of markup as one page that needs nothing else: no script, no network; light or dark as the reader's system is. */
export function renderPage(title: string, sections: readonly string[]): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(title)}</title>
<style>${style}</style>
</head>
<body>
<h1>${escapeHtml(title)}</h1>
${sections.filter(Boolean).join('\n')}
</body>
</html>
`;
}

export function renderTable(content: Table): string {
  const { title, columns, rows, notes } = content;
  const figures = figureColumns(content);
  const cell = (tag: 'th' | 'td', text: string, i: number) =>
    `<${tag}${figures[i] ? ' class="figure"' : ''}>${escapeHtml(text)}</${tag}>`;
  const row = (tag: 'th' | 'td', cells: readonly string[]) =>
    `<tr>${cells.map((text, i) => cell(tag, text, i)).join('')}</tr>`;
  return `<h3>${escapeHtml(title)}</h3>
<div class="scroll"><table>
<thead>${row('th', columns)}</thead>
<tbody>
${rows.map((cells) => row('td', cells)).join('\n')}
</tbody>
</table></div>
${notes.map((note) => `<p>${escapeHtml(note)}</p>`).join('\n')}`;
}
