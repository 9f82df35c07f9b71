import { compareResults } from './compare.ts';
import { type Labelled, latencyPlot, rooflinePlot, throughputPlot } from './plots.ts';
import type { Result } from './schema.ts';
import { describeMachine, isFigure, type Table, tablesOf } from './tables.ts';

/** Text as HTML, in elements and in quoted attributes: names come from drivers and files. */
export const escapeHtml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);

const style = `
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.3rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin-bottom: 0.3rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.87rem; }
th, td { border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); padding: 0.15rem 0.7rem; text-align: left; }
.figure { text-align: right; }
.warning { border-left: 4px solid #c60; padding: 0.2rem 0.8rem; font-weight: 600; }
.scroll { overflow-x: auto; } figure { margin: 0.5rem 0; } p { margin: 0.3rem 0; }
@media print { :root { color-scheme: light; font-size: 11px; } .scroll { overflow: visible; } tr, figure { break-inside: avoid; } }
`;

/** Results as one HTML page that needs nothing else: no script, no network; light or dark as the reader's system is. */
export function renderReport(results: readonly Result[]): string {
  const labelled = results.map((result, i) => ({
    label: results.length === 1 ? '' : `Result ${i + 1}:`,
    result,
  }));
  const sections = [
    ...labelled.map(renderMachine),
    renderPlot('Latency against tokens', latencyPlot(labelled)),
    renderPlot('Throughput against batch', throughputPlot(labelled)),
    ...labelled.flatMap(({ label, result }) =>
      (result.kernels ?? []).map((kernels) =>
        renderPlot(`${label} Roofline of ${kernels.device} (${kernels.name})`, rooflinePlot(kernels)),
      ),
    ),
    ...labelled.slice(1).map((later) => renderComparison(labelled[0]!, later)),
    ...labelled.map(renderTables),
  ];
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Benchmark of llama-guard-webgpu</title>
<style>${style}</style>
</head>
<body>
<h1>Benchmark of llama-guard-webgpu</h1>
${sections.filter(Boolean).join('\n')}
</body>
</html>
`;
}

function renderMachine({ label, result }: Labelled): string {
  const warning = result.environment.adapter?.software
    ? '<p class="warning">A software adapter: a processor plays the GPU. These are no figures of a GPU.</p>'
    : '';
  const lines = describeMachine(result).map((line) => `<p>${escapeHtml(line)}</p>`);
  return `<h2>${label} Where and of what</h2>\n${warning}${lines.join('\n')}`;
}

const renderPlot = (title: string, plot: string | undefined): string =>
  plot === undefined ? '' : `<h2>${escapeHtml(title)}</h2>\n<div class="scroll">${plot}</div>`;

const renderTables = ({ label, result }: Labelled): string =>
  [`<h2>${label} Figures</h2>`, ...tablesOf(result).map(renderTable)].join('\n');

/** Nothing where the two have no row in common. */
function renderComparison(before: Labelled, after: Labelled): string {
  const tables = compareResults(before.result, after.result);
  if (tables.length === 1) return '';
  return [`<h2>${after.label} against ${before.label.replace(':', '')}</h2>`, ...tables.map(renderTable)].join('\n');
}

function renderTable({ title, columns, rows, notes }: Table): string {
  const cell = (tag: 'th' | 'td', text: string, column: string) =>
    `<${tag}${isFigure(column) ? ' class="figure"' : ''}>${escapeHtml(text)}</${tag}>`;
  const row = (tag: 'th' | 'td', cells: readonly string[]) =>
    `<tr>${cells.map((text, i) => cell(tag, text, columns[i]!)).join('')}</tr>`;
  return `<h3>${escapeHtml(title)}</h3>
<div class="scroll"><table>
<thead>${row('th', columns)}</thead>
<tbody>
${rows.map((cells) => row('td', cells)).join('\n')}
</tbody>
</table></div>
${notes.map((note) => `<p>${escapeHtml(note)}</p>`).join('\n')}`;
}
