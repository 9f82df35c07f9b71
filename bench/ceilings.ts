import type { Kernel } from './limits.ts';
import { measureDispatches } from './measure.ts';
import type { Ceilings } from './schema.ts';
import type { Subject } from './subject.ts';

/** Far beyond the last-level cache of any device known, where its bindings allow. */
const passedBytes = 256 * 2 ** 20;

/** Measures what no kernel can beat on a device. */
export async function measureCeilings<K extends Kernel>(subject: Subject<K>): Promise<Ceilings> {
  return {
    bandwidth: [...(await kernelBandwidths(subject)), ...((await subject.copies?.()) ?? [])],
    arithmetic: await arithmeticPeaks(subject),
  };
}

const effort = { minimumMs: 200 } as const;

async function kernelBandwidths<K extends Kernel>({
  backend,
  limits,
  largestTensor,
}: Subject<K>): Promise<Ceilings['bandwidth']> {
  // A power of two, which every kernel can share out evenly.
  const elements = 2 ** Math.floor(Math.log2(Math.min(passedBytes, largestTensor) / 4));
  using x = backend.allocate('passed', 'f32', [elements]);
  using copy = backend.allocate('copy', 'f32', [elements]);
  using sum = backend.allocate('sum', 'f32', [1]);
  // Memory that nobody ever wrote is one page, seen everywhere.
  backend.runVariant(limits.copying, { x: copy, out: x });
  const { median: copyMs } = await measureDispatches(
    backend,
    () => backend.runVariant(limits.copying, { x, out: copy }),
    effort,
  );
  const { median: readMs } = await measureDispatches(
    backend,
    () => backend.runVariant(limits.reading, { x, out: sum }, { bound: 1 }),
    effort,
  );
  await backend.finish();
  return [
    { name: 'copying, by a kernel', gigabytesPerSecond: (2 * 4 * elements) / copyMs / 1e6 },
    { name: 'reading, by a kernel', gigabytesPerSecond: (4 * elements) / readMs / 1e6 },
  ];
}

async function arithmeticPeaks<K extends Kernel>({ backend, limits }: Subject<K>): Promise<Ceilings['arithmetic']> {
  const { arithmetic, invocations, rounds } = limits;
  using out = backend.allocate('sums', 'f32', [invocations]);
  const peaks = new Map<string, Ceilings['arithmetic'][number]>();
  for (const { name, dtypes, variant, flopsPerRound } of arithmetic) {
    // The chains tend to a limit of 1, in range of f16.
    const run = () => backend.runVariant(variant, { out }, { rounds, factor: 0.5, addend: 0.5 });
    const { median } = await measureDispatches(backend, run, effort);
    const gflops = (invocations * rounds * flopsPerRound) / median / 1e6;
    peaks.set(name, { name, dtypes: [...dtypes], gflops: Math.max(gflops, peaks.get(name)?.gflops ?? 0) });
  }
  await backend.finish();
  return [...peaks.values()];
}
