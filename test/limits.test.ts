import { availableParallelism, totalmem } from 'node:os';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { availableMemory, availableThreads, grantedCores } from '../engine/node/limits.ts';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { testDevices } from './support/devices.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** A machine on which there are these files and no others. */
const machine = (files: Readonly<Record<string, string>>) => (file: string) => {
  const text = files[file];
  if (text === undefined) throw new Error(`no such file: ${file}`);
  return text;
};

describe('the processor time of control groups', () => {
  it.each([
    ['no control groups', {}, Number.POSITIVE_INFINITY],
    [
      'a container with a namespace of its own, version 2',
      { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': '150000 100000\n' },
      1.5,
    ],
    [
      'a service, version 2, whose slice is granted less',
      {
        '/proc/self/cgroup': '0::/guards.slice/guard.service\n',
        '/sys/fs/cgroup/guards.slice/guard.service/cpu.max': '800000 100000\n',
        '/sys/fs/cgroup/guards.slice/cpu.max': '400000 100000\n',
        '/sys/fs/cgroup/cpu.max': 'max 100000\n',
      },
      4,
    ],
    [
      'version 1, with a path of the host that the container does not see',
      {
        '/proc/self/cgroup': '4:memory:/docker/f00\n3:cpu,cpuacct:/docker/f00\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '200000\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      2,
    ],
    [
      'version 1 without a limit, beside a version 2 that has no processors to grant',
      {
        '/proc/self/cgroup': '1:cpu:/\n0::/\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
        '/sys/fs/cgroup/cpu/cpu.cfs_period_us': '100000\n',
      },
      Number.POSITIVE_INFINITY,
    ],
    [
      'files that say something else',
      { '/proc/self/cgroup': '0::/\nnonsense\n', '/sys/fs/cgroup/cpu.max': '?\n' },
      Number.POSITIVE_INFINITY,
    ],
  ])('of %s', (_, files, cores) => {
    expect(grantedCores(machine(files))).toBe(cores);
  });

  it('bounds the threads, of which there is always one', () => {
    const granting = (quota: number) =>
      machine({ '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/cpu.max': `${quota} 100000\n` });
    expect(availableThreads(granting(40_000))).toBe(1);
    expect(availableThreads(granting(100_000))).toBe(1);
    expect(availableThreads(granting(99_900_000))).toBe(availableParallelism());
    expect(availableThreads()).toBeGreaterThan(0);
  });
});

describe('the memory that a model may take', () => {
  it('is most of what the control group has, or of what there is', () => {
    vi.spyOn(process, 'constrainedMemory').mockReturnValue(10 * 2 ** 20);
    expect(availableMemory()).toBe(8 * 2 ** 20);
    // What is returned where nothing is known, and where nothing is limited.
    for (const unbounded of [0, 2 ** 64]) {
      vi.spyOn(process, 'constrainedMemory').mockReturnValue(unbounded);
      expect(availableMemory()).toBe(Math.floor(0.8 * totalmem()));
    }
  });

  it.runIf(testDevices.includes('webgpu'))('bounds a software adapter, and is not what a GPU has', async () => {
    vi.spyOn(process, 'constrainedMemory').mockReturnValue(10 * 2 ** 20);
    await using backend = await openWebGpu({ tuning: 'ignore' });
    const { software } = backend.description;
    expect(backend.memoryBudget).toBe(software ? 8 * 2 ** 20 : Number.POSITIVE_INFINITY);
    await using told = await openWebGpu({ tuning: 'ignore', memoryBudget: 2 ** 20 });
    expect(told.memoryBudget).toBe(2 ** 20);
  });
});
