import type { Table } from '../guard/report/table.ts';
import type { ComputedOn, Result, Timing } from './schema.ts';
import { figure } from './tables.ts';

/** A time of a result under a name that is the same in every result. */
export interface NamedTiming {
  readonly group: string;
  readonly name: string;
  readonly timing: Timing;
}

/** A device in words that are the same in every result; other threads make another place. */
const placeOf = ({ device, threads }: Pick<ComputedOn, 'device' | 'threads'>): string =>
  threads === undefined ? device : `${device}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`;

/** Every time of a result. */
export function timingsOf({ kernels = [], guard = [], models = [] }: Result): NamedTiming[] {
  const requests = (count: number) => `${count} ${count === 1 ? 'request' : 'requests'}`;
  return [
    ...kernels.flatMap(({ rows, ...on }) =>
      rows.map((row) => ({
        group: `Kernels on ${placeOf(on)}`,
        name: `${row.operation}/${row.variant}, ${row.label}, ${row.dtypes}`,
        timing: row,
      })),
    ),
    ...guard.flatMap((result) => {
      const group = `Guard: ${result.model} on ${placeOf(result)}, ${result.dtype}`;
      const { firstCheck, runs } = result.coldStart;
      const scenario = ({ policy, messageTokens }: { policy: string; messageTokens: number }) =>
        `policy: ${policy}, a message of ${messageTokens} tokens`;
      return [
        { group, name: 'cold start to the first answer', timing: { median: firstCheck, p90: firstCheck, runs } },
        ...result.checks.map((row) => ({ group, name: `cached check, ${scenario(row)}`, timing: row })),
        ...result.uncached.map((row) => ({ group, name: `uncached check, ${scenario(row)}`, timing: row })),
        ...result.batches.map((row) => ({ group, name: `batch of ${requests(row.size)}`, timing: row })),
      ];
    }),
    ...models.flatMap((result) =>
      result.passes.map((pass) => ({
        group: `Model: ${result.config} on ${placeOf(result)}, ${result.dtype}`,
        name: `${pass.kind}, ${pass.sequences} x ${pass.newTokens} tokens after ${pass.prefixTokens}`,
        timing: pass,
      })),
    ),
  ];
}

/** How many times faster `after` is than `before`, and whether that is more than the runs of either spread. */
export function compareTimings(
  before: Timing,
  after: Timing,
): { readonly ratio: number; readonly beyondNoise: boolean } {
  const ratio = before.median / after.median;
  const noise = Math.max(before.p90 / before.median, after.p90 / after.median);
  return { ratio, beyondNoise: ratio > noise || ratio < 1 / noise };
}

/** What two results have in common side by side, a table for each group; what only one of them has is counted. */
export function compareResults(before: Result, after: Result): Table[] {
  const later = timingsOf(after);
  const keyOf = ({ group, name }: NamedTiming) => `${group}\n${name}`;
  const byKey = new Map(later.map((row) => [keyOf(row), row.timing]));
  const earlier = timingsOf(before);
  const common = earlier.filter((row) => byKey.has(keyOf(row)));
  const tables = [...new Set(common.map(({ group }) => group))].map((group) => ({
    title: group,
    columns: ['what', 'before ms', 'after ms', 'ratio', 'beyond the noise'],
    rows: common
      .filter((row) => row.group === group)
      .map((row) => {
        const timing = byKey.get(keyOf(row))!;
        const { ratio, beyondNoise } = compareTimings(row.timing, timing);
        const verdict = beyondNoise ? (ratio > 1 ? 'faster' : 'slower') : '';
        return [row.name, figure(row.timing.median), figure(timing.median), ratio.toFixed(2), verdict];
      }),
    notes: [] as string[],
  }));
  const differ = differences(before, after);
  const alone = [earlier.length - common.length, later.length - common.length];
  const summary = {
    title: 'Two results',
    columns: ['', 'before', 'after'],
    rows: differ.map(([what, a, b]) => [what, a, b]),
    notes: [
      'A ratio above 1: the second is faster. Beyond the noise: by more than the 90th percentile is above the median.',
      ...(alone.some((count) => count > 0)
        ? [`Only in the first: ${alone[0]} rows; only in the second: ${alone[1]}.`]
        : []),
      ...(differ.some(([what]) => what === 'adapter')
        ? ['THE ADAPTERS DIFFER: the ratios compare devices, not commits.']
        : []),
    ],
  };
  return [summary, ...tables];
}

/** What sets the two apart; the commits are always told. */
function differences(before: Result, after: Result): [what: string, before: string, after: string][] {
  const describe = ({ environment: { adapter, processor, node, commit } }: Result): Record<string, string> => ({
    commit,
    adapter: adapter ? `${adapter.name}${adapter.software ? ' (software)' : ''}` : 'none',
    toggles: adapter?.toggles.join(' ') ?? '',
    processor: `${processor.model}, ${processor.cores} cores`,
    'Node.js': node,
  });
  const [a, b] = [describe(before), describe(after)];
  return Object.keys(a)
    .filter((what) => what === 'commit' || a[what] !== b[what])
    .map((what) => [what, a[what]!, b[what]!]);
}
