import type { KernelBackend } from '../engine/backend.ts';
import type { Timing } from './schema.ts';

/** A median needs as many, unless they take twice as long as is enough. */
const fewestRuns = 3;

interface Effort {
  readonly minimumMs?: number;
  readonly minimumRuns?: number;
  /** Where runs take long, this much time is enough. */
  readonly enoughMs?: number;
  /** Runs that do not count, before the others. */
  readonly warmUps?: number;
}

/**
 * Runs `task` until `minimumMs` have passed and at least `minimumRuns` times.
 * @param input makes what a run works on, outside the clock; runs are numbered from 0, those that do not count too
 */
export async function measure<Input = void>(
  task: (input: Input) => Promise<unknown>,
  { minimumMs = 300, minimumRuns = 5, enoughMs = Number.POSITIVE_INFINITY, warmUps = 1 }: Effort = {},
  input: (run: number) => Input = () => undefined as Input,
): Promise<Timing> {
  let run = 0;
  const clock = async () => {
    const given = input(run++);
    const start = performance.now();
    await task(given);
    return performance.now() - start;
  };
  for (let i = 0; i < warmUps; i++) await clock();
  return summarise(await repeat(clock, { minimumMs, minimumRuns, enoughMs }));
}

/** A pass takes this long at least, as far as `mostDispatches` allow: timestamps come in steps of up to 0.1 ms. */
const passMs = 5;
const mostDispatches = 512;

/**
 * Milliseconds of one dispatch among many in one recorded pass. Read off the device's timestamps where it has them; else
 * off the wall clock, from the moment that the pass is queued to its completion.
 * @param queue queues the i-th dispatch
 */
export async function measureDispatches(
  device: Pick<KernelBackend<never>, 'record' | 'replay' | 'finish' | 'time'>,
  queue: (i: number) => void,
  { minimumMs = 50, minimumRuns = 5, enoughMs = 300 }: Effort = {},
): Promise<Timing & { readonly clock: 'timestamps' | 'wall' }> {
  let clock: 'timestamps' | 'wall' = 'timestamps';
  const pass = async (dispatches: number) => {
    using recording = device.record(() => {
      for (let i = 0; i < dispatches; i++) queue(i);
    });
    const stamped = await device.time?.(() => device.replay(recording));
    if (stamped !== undefined) return stamped / dispatches;
    clock = 'wall';
    const start = performance.now();
    device.replay(recording);
    await device.finish();
    return (performance.now() - start) / dispatches;
  };
  let dispatches = 1;
  // The first passes are slow: engines compile again what runs often. So the number grows until a pass is long enough.
  for (;;) {
    const once = await pass(dispatches);
    if (dispatches === mostDispatches || once * dispatches >= passMs) break;
    dispatches = Math.min(mostDispatches, Math.max(2 * dispatches, Math.ceil(passMs / Math.max(once, 1e-3))));
  }
  const times = await repeat(() => pass(dispatches), { minimumMs, minimumRuns, enoughMs });
  return { ...summarise(times), clock };
}

async function repeat(
  clock: () => Promise<number>,
  { minimumMs, minimumRuns, enoughMs }: Required<Omit<Effort, 'warmUps'>>,
): Promise<number[]> {
  const times: number[] = [];
  const begin = performance.now();
  for (;;) {
    times.push(await clock());
    const elapsed = performance.now() - begin;
    const done = times.length >= minimumRuns && elapsed >= minimumMs;
    const enough = elapsed >= enoughMs && (times.length >= fewestRuns || elapsed >= 2 * enoughMs);
    if (done || enough) return times;
  }
}

/** Median, 90th percentile (nearest rank) and number of some times. */
export function summarise(times: readonly number[]): Timing {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
  return { median: at(0.5), p90: at(0.9), runs: sorted.length };
}
