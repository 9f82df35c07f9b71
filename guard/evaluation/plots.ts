import * as Plot from '@observablehq/plot';
import { draw } from '../report/draw.ts';
import type { Figures } from './figures.ts';
import { precisionRecallCurve, reliability } from './metrics.ts';
import type { Answer } from './questions.ts';

/** A system's answers under its name. */
export interface Series {
  readonly system: string;
  readonly answers: readonly Answer[];
}

/** Small enough for a phone, where the whole width of a plot is shown; several stand side by side on a screen. */
const size = {
  width: 460,
  height: 350,
  marginLeft: 48,
  marginTop: 30,
  marginBottom: 45,
  style: { fontSize: '13px' },
} as const;
const share = { domain: [0, 1], ticks: 5 } as const;
const legend = { legend: true } as const;

/** Precision against recall, with the share of unsafe samples, which a random score would reach. */
export function precisionRecallPlot(series: readonly Series[]): string {
  // The first is drawn last: it is what the page is about.
  const points = series.toReversed().flatMap(({ system, answers }) =>
    thinned(precisionRecallCurve(answers).toSorted((a, b) => a.recall - b.recall)).map((point) => ({
      system,
      ...point,
    })),
  );
  const { answers } = series[0]!;
  const base = answers.filter(({ label }) => label === 1).length / answers.length;
  return draw({
    ...size,
    x: { ...share, label: 'recall' },
    y: { ...share, label: 'precision' },
    color: { ...legend, domain: series.map(({ system }) => system) },
    marks: [
      Plot.ruleY([base], { strokeDasharray: '4 3' }),
      Plot.line(points, { x: 'recall', y: 'precision', stroke: 'system', curve: 'step-before' }),
    ],
  });
}

/** What share of the samples of a score is unsafe: on the diagonal where scores are probabilities; dots by their number. */
export function reliabilityPlot(series: readonly Series[]): string {
  const points = series.flatMap(({ system, answers }) =>
    reliability(answers, 15)
      .filter(({ count }) => count > 0)
      .map((bin) => ({ system, ...bin })),
  );
  return draw({
    ...size,
    x: { ...share, label: 'mean score' },
    y: { ...share, label: 'share that is unsafe' },
    r: { range: [2, 10] },
    color: legend,
    marks: [
      Plot.line(
        [
          [0, 0],
          [1, 1],
        ],
        { strokeDasharray: '4 3' },
      ),
      Plot.line(points, { x: 'meanScore', y: 'positiveRate', stroke: 'system' }),
      Plot.dot(points, {
        x: 'meanScore',
        y: 'positiveRate',
        r: 'count',
        fill: 'system',
        fillOpacity: 0.7,
        title: ({ system, count }: (typeof points)[number]) => `${system}: ${count} samples`,
      }),
    ],
  });
}

/** How often each score is given, by label, and the thresholds. */
export function histogram({ answers }: Series): string {
  const thresholds = new Set(answers.map(({ threshold }) => threshold));
  const labelled = answers.map(({ score, label }) => ({ score, label: label === 1 ? 'unsafe' : 'safe' }));
  return draw({
    ...size,
    x: { ...share, label: 'score' },
    y: { label: 'samples' },
    color: { ...legend, domain: ['safe', 'unsafe'] },
    marks: [
      Plot.rectY(
        labelled,
        Plot.binX<Plot.RectYOptions>(
          { y: 'count' },
          { x: 'score', fill: 'label', fillOpacity: 0.8, thresholds: histogramBins },
        ),
      ),
      Plot.ruleY([0]),
      Plot.ruleX([...thresholds], { strokeDasharray: '4 3' }),
    ],
  });
}

const histogramBins = Array.from({ length: 21 }, (_, i) => i / 20);

/** AUPRC of each category with its interval, both ways; those without positives are not shown. */
export function categoryBars(figures: readonly Figures[], nameOf: (code: string) => string): string | undefined {
  const bars = figures.flatMap(({ way, code, ranking }) =>
    code === undefined || ranking === null ? [] : [{ way, category: nameOf(code), ...ranking.auprc }],
  );
  if (bars.length === 0) return undefined;
  const categories = [...new Set(bars.map(({ category }) => category))];
  return draw({
    ...size,
    height: 80 + 70 * categories.length,
    marginLeft: 12,
    x: { ...share, label: 'AUPRC' },
    y: { axis: null },
    fy: { axis: null, domain: categories, padding: 0.4 },
    color: legend,
    marks: [
      Plot.barX(bars, { fy: 'category', y: 'way', x: 'estimate', fill: 'way', fillOpacity: 0.7 }),
      Plot.ruleY(bars, { fy: 'category', y: 'way', x1: 'lower', x2: 'upper', strokeWidth: 2 }),
      // Names stand over their bars: beside them they would take half of a phone.
      Plot.text(categories, {
        fy: (name: string) => name,
        text: (name: string) => name,
        frameAnchor: 'top-left',
        lineAnchor: 'bottom',
        dy: -3,
      }),
      Plot.ruleX([0]),
    ],
  });
}

/** Some hundreds of points, the first and the last among them: a plot shows no more. */
function thinned<T>(points: readonly T[], most = 400): readonly T[] {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, i) => points[Math.round((i * (points.length - 1)) / (most - 1))]!);
}
