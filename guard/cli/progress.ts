import { Presets, SingleBar } from 'cli-progress';
import type { OnProgress, OnTuning } from '../../engine/index.ts';

/** A bar on standard error, where that is a terminal; else nothing. */
export function progressBar(label: string): { readonly update: OnProgress; stop(): void } {
  if (!process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const bar = new SingleBar(
    { format: `${label} {bar} {percentage}% | {loaded} of {size} MiB`, stream: process.stderr, clearOnComplete: true },
    Presets.shades_classic,
  );
  const mebibytes = (bytes: number) => (bytes / 2 ** 20).toFixed(1);
  let started = false;
  return {
    update: ({ loadedBytes, totalBytes }) => {
      const payload = { loaded: mebibytes(loadedBytes), size: mebibytes(totalBytes) };
      if (!started) bar.start(totalBytes, 0, payload);
      started = true;
      bar.update(loadedBytes, payload);
    },
    stop: () => bar.stop(),
  };
}

/** A bar of things done, with the time that the rest will take, on standard error where that is a terminal; else nothing. */
export function countBar(label: string, total: number, done: number): { readonly step: () => void; stop(): void } {
  if (!process.stderr.isTTY) return { step: () => {}, stop: () => {} };
  const format = `${label} {bar} {percentage}% | {value} of {total} | {eta_formatted} left`;
  const bar = new SingleBar(
    { format, stream: process.stderr, clearOnComplete: true, etaBuffer: 1000 },
    Presets.shades_classic,
  );
  bar.start(total, done);
  return { step: () => bar.increment(), stop: () => bar.stop() };
}

/** The state of tuning in a line of standard error that replaces itself, where that is a terminal. */
export const tuningLine: OnTuning = ({ done, total }) => {
  if (!process.stderr.isTTY) return;
  const text = done < total ? `Measuring kernels: ${Math.floor((100 * done) / total)}%` : '';
  process.stderr.write(`\r\x1b[K${text}`);
};
