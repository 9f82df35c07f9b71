import type { ComputedOn, KernelRow, Target } from './schema.ts';

/** What the processor should reach in a product of this size. */
export const targetSize = '512 x 1024 x 1024';
const threads = 2;
const gflops = 60;
const integerGain = 1.5;

/** What the kernels of a device are to reach; nothing where nothing is asked of it, or where those rows were left out. */
export function kernelTargets(on: Pick<ComputedOn, 'device' | 'threads'>, rows: readonly KernelRow[]): Target[] {
  if (on.device !== 'cpu') return [];
  const reached = (dtypes: string, variant: string) =>
    rows.find(
      (row) =>
        row.operation === 'matmul' &&
        row.label === targetSize &&
        row.dtypes === dtypes &&
        row.variant.startsWith(variant),
    )?.gflops;
  const floats = reached('f32', 'panels');
  const integers = reached('f32/q8', 'integers');
  const bytes = reached('f32/q8', 'int8');
  const targets: Target[] = [];
  const add = (name: string, value: number, target: number) => targets.push({ name, value, bound: 'at least', target });
  if (floats && on.threads === threads)
    add(`GFLOP/s of f32 in a product of ${targetSize}, ${threads} threads`, floats, gflops);
  if (floats && integers) add('the same in q8, times as fast', integers / floats, integerGain);
  if (floats && bytes) add('the same in q8 with x in bytes, times as fast', bytes / floats, integerGain);
  return targets;
}
