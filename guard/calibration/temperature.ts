import * as z from 'zod';
import type { Labelled } from '../evaluation/metrics.ts';
import { logOdds, sigmoid } from './log-odds.ts';
import type { Method } from './method.ts';

export interface Temperature {
  /** Log-odds are divided by it: above 1 for a guard that is too sure of itself. */
  readonly temperature: number;
}

/** Beyond these a temperature says nothing more: nearly all scores are 0.5, or 0 and 1. */
const [coldest, hottest] = [0.05, 20];

const notes: ReadonlyMap<number, string> = new Map([
  [coldest, `The temperature is at its lower bound, ${coldest}: few scores or none are on the wrong side of 0.5.`],
  [hottest, `The temperature is at its upper bound, ${hottest}: scores hardly tell the labels apart.`],
]);

/**
 * Temperature scaling (Guo et al. 2017, arXiv 1706.04599): `sigmoid(log-odds / T)`, T by maximum likelihood. 0.5 stays
 * where it is. Where the labels would have T beyond 0.05 to 20, because hardly a score is on the wrong side of 0.5 or
 * because scores hardly tell the labels apart, the bound is taken.
 */
export const temperature: Method<'labels', Temperature> = {
  needs: 'labels',
  parameters: z.strictObject({ temperature: z.number().min(coldest).max(hottest) }),
  fit: (samples) => ({ temperature: bestTemperature(samples) }),
  apply: ({ temperature }, score) => sigmoid(logOdds(score) / temperature),
  note: ({ temperature }) => notes.get(temperature),
};

/** Bisects the temperature on a logarithmic scale. */
function bestTemperature(samples: readonly Labelled[]): number {
  let [low, high] = [coldest, hottest];
  if (isTooHot(samples, low)) return low;
  if (!isTooHot(samples, high)) return high;
  while (high / low > 1 + 1e-12) {
    const middle = Math.sqrt(low * high);
    if (isTooHot(samples, middle)) high = middle;
    else low = middle;
  }
  return low;
}

/** Whether a lower temperature is likelier: the likelihood is concave in 1 / T, and this is the sign of its slope. */
function isTooHot(samples: readonly Labelled[], temperature: number): boolean {
  const slope = samples.reduce((sum, { score, label }) => {
    const odds = logOdds(score);
    return sum + odds * (label - sigmoid(odds / temperature));
  }, 0);
  return slope > 0;
}
