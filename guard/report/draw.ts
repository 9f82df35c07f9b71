import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

/** A plot as SVG markup, drawn in a document of its own; texts are escaped as it is written out. */
export function draw(options: Plot.PlotOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  return Plot.plot({ grid: true, ...options, document }).outerHTML;
}
