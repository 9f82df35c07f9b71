import { escapeHtml, renderPage, renderTable } from '../guard/report/page.ts';
import { compareResults } from './compare.ts';
import { type Labelled, latencyPlot, rooflinePlot, throughputPlot } from './plots.ts';
import type { Result } from './schema.ts';
import { describeMachine, tablesOf } from './tables.ts';

/** Results as one HTML page. */
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
  return renderPage('Benchmark of llama-guard-webgpu', sections);
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
