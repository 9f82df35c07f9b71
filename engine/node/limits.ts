/** What this process may use of its machine. */
import { readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';

/** Reads a small text file; throws where there is none. */
type Read = (file: string) => string;

const readText: Read = (file) => readFileSync(file, 'utf8');

/** Cores that this process may use: those it may run on, and of those no more than control groups grant it time for. */
export function availableThreads(read: Read = readText): number {
  return Math.max(1, Math.min(availableParallelism(), Math.round(grantedCores(read))));
}

/** Bytes of memory that a model may take: most of the machine's, or of what its control group may have. */
export function availableMemory(): number {
  const constrained = process.constrainedMemory();
  return Math.floor(0.8 * Math.min(totalmem(), constrained > 0 ? constrained : Number.POSITIVE_INFINITY));
}

/**
 * The processor time that Linux's control groups grant this process, in cores: of its group and those around it the one
 * that grants least. A container may see its own group as the root, and its path be that of the host: folders that are
 * not there are passed over.
 */
export function grantedCores(read: Read = readText): number {
  const ask = <T>(question: () => T): T | undefined => {
    try {
      return question();
    } catch {
      return undefined;
    }
  };
  const lines = ask(() => read('/proc/self/cgroup').trim().split('\n')) ?? [];
  const quotas = lines.flatMap((line) => {
    const [, controllers, path] = line.match(/^\d+:([^:]*):(.*)$/) ?? ['', 'none', ''];
    const version2 = controllers === '';
    if (!version2 && !controllers!.split(',').includes('cpu')) return [];
    const root = version2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/cpu';
    return around(path!).map((group) => ask(() => (version2 ? quota2 : quota1)(`${root}${group}`, read)));
  });
  return Math.min(
    Number.POSITIVE_INFINITY,
    ...quotas.filter((cores): cores is number => cores !== undefined && cores > 0),
  );
}

/** A group and those around it: '/a/b', '/a' and ''. */
const around = (path: string): string[] => {
  const names = path.split('/').filter(Boolean);
  return [...names.keys(), names.length].reverse().map((count) => ['', ...names.slice(0, count)].join('/'));
};

/** Microseconds of processor time in a period, or 'max', and the period. */
function quota2(folder: string, read: Read): number {
  const [quota, period] = read(`${folder}/cpu.max`).trim().split(' ').map(Number) as [number, number];
  return quota / period;
}

/** The same in two files; -1 where there is no limit. */
const quota1 = (folder: string, read: Read): number =>
  Number(read(`${folder}/cpu.cfs_quota_us`)) / Number(read(`${folder}/cpu.cfs_period_us`));
