import * as Plot from '@observablehq/plot';
import { draw } from '../guard/report/draw.ts';
import { attainable, bandwidthOf } from './roofline.ts';
import type { KernelRow, KernelsResult, Result } from './schema.ts';

/** A result and the short name it goes by among several. */
export interface Labelled {
  readonly label: string;
  readonly result: Result;
}

const size = { width: 900, height: 480, marginLeft: 60, marginRight: 30 } as const;

/** The kernels of a device under its roofs, one for each arithmetic, both axes logarithmic; undefined where none was timed. */
export function rooflinePlot({ ceilings, rows }: Pick<KernelsResult, 'ceilings' | 'rows'>): string | undefined {
  const points = rows
    .filter(({ flops }) => flops > 0)
    .map((row) => ({ ...row, intensity: row.flops / row.bytes, name: nameOf(row) }));
  if (points.length === 0) return undefined;
  const intensities = points.map(({ intensity }) => intensity);
  // Names stand to the left of their points.
  const [least, most] = [Math.min(...intensities) / 12, Math.max(...intensities) * 2];
  const steps = Array.from({ length: 101 }, (_, i) => least * (most / least) ** (i / 100));
  const bandwidth = bandwidthOf(ceilings);
  const roofs = ceilings.arithmetic.flatMap(({ name, gflops: peak }) =>
    steps.map((intensity) => ({ name, intensity, gflops: attainable({ peak, bandwidth }, intensity) })),
  );
  // Those nearest to their roofs are named, as far as names do not cover each other; all tell theirs to a pointer.
  const named: typeof points = [];
  for (const point of points.toSorted((a, b) => b.share - a.share)) {
    const far = (a: number, b: number, factor: number) => Math.max(a / b, b / a) > factor;
    const clear = named.every((n) => far(n.gflops, point.gflops, 1.3) || far(n.intensity, point.intensity, 12));
    if (clear) named.push(point);
  }
  return draw({
    ...size,
    x: { type: 'log', label: 'operations a byte', tickFormat: '~g' },
    y: { type: 'log', label: 'GFLOP/s', tickFormat: '~g' },
    color: { legend: true },
    marks: [
      Plot.line(roofs, { x: 'intensity', y: 'gflops', z: 'name', strokeDasharray: '4 3' }),
      Plot.text(ceilings.arithmetic, { x: most, y: 'gflops', text: 'name', textAnchor: 'end', dy: -6 }),
      Plot.dot(points, { x: 'intensity', y: 'gflops', stroke: 'operation', r: 3, title: 'name' }),
      Plot.text(named, {
        x: 'intensity',
        y: 'gflops',
        text: ({ operation, variant, label }: KernelRow) => `${operation}/${variant}, ${label}`,
        textAnchor: 'end',
        dx: -6,
      }),
    ],
  });
}

const nameOf = ({ operation, variant, label, dtypes, gflops, share }: KernelRow): string =>
  `${operation}/${variant}, ${label}, ${dtypes}: ${gflops.toPrecision(3)} GFLOP/s, ${(100 * share).toFixed(1)}% of the ceiling`;

interface Point {
  readonly series: string;
  readonly x: number;
  readonly y: number;
}

/** Milliseconds of a check against the tokens that had to be computed. */
export function latencyPlot(results: readonly Labelled[]): string | undefined {
  const points = results.flatMap(({ label, result: { guard = [], models = [] } }) => [
    ...guard.flatMap(({ device, dtype, checks, uncached }) => [
      ...checks.map((row) => ({
        series: `${label} guard, ${device} ${dtype}, policy ${row.policy} cached`,
        x: row.newTokens,
        y: row.median,
      })),
      ...uncached.map((row) => ({
        series: `${label} guard, ${device} ${dtype}, uncached`,
        x: row.promptTokens,
        y: row.median,
      })),
    ]),
    ...models.flatMap(({ config, device, dtype, passes }) =>
      passes
        .filter(({ sequences }) => sequences === 1)
        .map((pass) => ({ series: `${label} ${config}, ${device} ${dtype}`, x: pass.newTokens, y: pass.median })),
    ),
  ]);
  return lines(points, 'tokens computed', 'ms');
}

/** Requests a second against the size of the batch. */
export function throughputPlot(results: readonly Labelled[]): string | undefined {
  const points = results.flatMap(({ label, result: { guard = [], models = [] } }) => [
    ...guard.flatMap(({ device, dtype, batches }) =>
      batches.map((row) => ({
        series: `${label} guard, ${device} ${dtype}`,
        x: row.size,
        y: (1000 * row.size) / row.median,
      })),
    ),
    ...models.flatMap(({ config, device, dtype, passes }) =>
      passes
        .filter(({ kind }) => kind === 'batch' || kind === 'cached prefill')
        .map((pass) => ({
          series: `${label} ${config}, ${device} ${dtype}, ${pass.newTokens} new tokens each`,
          x: pass.sequences,
          y: (1000 * pass.sequences) / pass.median,
        })),
    ),
  ]);
  return lines(points, 'requests in a batch', 'requests/s');
}

function lines(points: readonly Point[], x: string, y: string): string | undefined {
  if (points.length === 0) return undefined;
  const sorted = points.toSorted((a, b) => a.x - b.x);
  return draw({
    ...size,
    x: { type: 'log', base: 2, label: x, tickFormat: 'd' },
    y: { type: 'log', label: y },
    color: { legend: true },
    marks: [
      Plot.line(sorted, { x: 'x', y: 'y', stroke: 'series' }),
      Plot.dot(sorted, {
        x: 'x',
        y: 'y',
        fill: 'series',
        title: ({ series, x, y }: Point) => `${series}: ${y.toPrecision(3)} at ${x}`,
      }),
    ],
  });
}
