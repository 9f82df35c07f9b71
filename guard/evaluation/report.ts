import { escapeHtml, renderPage, renderTable } from '../report/page.ts';
import type { Evaluation } from './figures.ts';
import { categoryBars, histogram, precisionRecallPlot, reliabilityPlot, type Series } from './plots.ts';
import { publishedBeside } from './published.ts';
import { answersTo, calibratedName, hasBoth, ownName, systemsOf, wholeVocabularyName } from './questions.ts';
import type { Run } from './run.ts';
import { describeRun, publishedTable, tablesOf } from './tables.ts';

/** A run as one HTML page with plots. */
export function renderEvaluation(run: Run, evaluation: Evaluation): string {
  const overall = evaluation.figures.filter(({ way, role }) => way === 'overall' && role === undefined);
  const published = publishedBeside(run, evaluation);
  const about = describeRun(run, evaluation).map((line) => `<p>${escapeHtml(line)}</p>`);
  return renderPage(`Evaluation of ${run.identity.model} on ${run.data.name}`, [
    about.join('\n'),
    '<h2>Plots</h2>',
    `<div class="plots">${plotsOf(run, evaluation).map(renderFigure).join('\n')}</div>`,
    '<h2>Figures</h2>',
    ...(typeof published === 'string' ? [`<p>${escapeHtml(published)}</p>`] : []),
    ...(typeof published === 'object' ? [renderTable(publishedTable(overall, published))] : []),
    ...tablesOf(run, evaluation).map(renderTable),
  ]);
}

interface Figure {
  readonly caption: string;
  readonly plot: string | undefined;
}

const renderFigure = ({ caption, plot }: Figure): string =>
  plot === undefined ? '' : `<section><h3>${escapeHtml(caption)}</h3>${plot}</section>`;

function plotsOf(run: Run, { figures }: Evaluation): Figure[] {
  const nameOf = new Map(run.categories.map(({ code, name }) => [code, `${code} ${name}`]));
  const series = systemsOf(run)
    .map((system): Series => ({ system: system.name, answers: answersTo({ way: 'overall' }, system, run.rows) }))
    .filter(({ answers }) => answers.length > 0);
  const own = series.filter(({ system }) => system === ownName || system === calibratedName);
  const ranked = series.filter(({ system, answers }) => system !== wholeVocabularyName && hasBoth(answers));
  const byCategory = figures.filter(({ system }) => system === ownName);
  return [
    {
      caption: 'Precision and recall',
      plot: ranked.length > 0 ? precisionRecallPlot(ranked) : undefined,
    },
    {
      caption: own.length > 1 ? 'Reliability, before and after calibration' : 'Reliability',
      plot: own.length > 0 ? reliabilityPlot(own) : undefined,
    },
    ...own.map((one) => ({ caption: `Scores: ${one.system}`, plot: histogram(one) })),
    { caption: 'AUPRC by category', plot: categoryBars(byCategory, (code) => nameOf.get(code)!) },
  ];
}
