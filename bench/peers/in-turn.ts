import type { Timing } from '../schema.ts';

const rounds = 3;
const minimumMs = 150;
const minimumRuns = 2;
/** Work slower than this is done once, and that one time counts. */
const slowMs = 5000;

/**
 * Times contestants that do the same work, in turn: in each round every one of them warms up by a run that does not
 * count and is then run repeatedly, so that a machine that becomes slower or faster does so for all, and nobody pays
 * for the threads that the one before left spinning.
 *
 * @returns a timing each, in the order of `contestants`
 */
export async function timeInTurn(contestants: readonly (() => Promise<unknown>)[]): Promise<Timing[]> {
  const times: number[][] = contestants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, contestant] of contestants.entries()) {
      const own = times[i]!;
      if (own.some((ms) => ms > slowMs)) continue;
      const first = await timeOnce(contestant);
      if (first > slowMs) {
        own.push(first);
        continue;
      }
      const begin = performance.now();
      for (let runs = 0; runs < minimumRuns || performance.now() - begin < minimumMs; runs++) {
        own.push(await timeOnce(contestant));
      }
    }
  }
  return times.map(summary);
}

/** Milliseconds of one run. */
export async function timeOnce(task: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await task();
  return performance.now() - start;
}

function summary(times: number[]): Timing {
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.min(times.length - 1, Math.floor(share * times.length))]!;
  return { median: at(0.5), p90: at(0.9), runs: times.length };
}
