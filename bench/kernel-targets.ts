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
  const [name, integers] = ['integers', 'int8']
    .map((variant) => [variant, reached('f32/q8', variant)] as const)
    .reduce((best, other) => ((other[1] ?? 0) > (best[1] ?? 0) ? other : best));
  const targets: Target[] = [];
  const add = (name: string, value: number, target: number) => targets.push({ name, value, bound: 'at least', target });
  if (floats && on.threads === threads)
    add(`GFLOP/s of f32 in a product of ${targetSize}, ${threads} threads`, floats, gflops);
  if (floats && integers) add(`the same in whole numbers ('${name}'), times as fast`, integers / floats, integerGain);
  return targets;
}
