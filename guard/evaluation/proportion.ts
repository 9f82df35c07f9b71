import type { Interval } from './bootstrap.ts';

/**
 * A share of independent trials with Wilson's score interval (Wilson 1927; Brown, Cai and DasGupta 2001): the shares that
 * the score test would not reject. Unlike the bootstrap's it does not shrink to a point where all trials ended alike.
 *
 * @param confidence from 0 to 1
 * @returns `null` of no trials
 */
export function proportion(successes: number, trials: number, confidence = 0.95): Interval | null {
  if (trials === 0) return null;
  const estimate = successes / trials;
  const square = normalQuantile((1 + confidence) / 2) ** 2;
  const middle = (successes + square / 2) / (trials + square);
  const half = Math.sqrt(square * (trials * estimate * (1 - estimate) + square / 4)) / (trials + square);
  // Rounding may leave the ends a last place away from the estimate, which at 0 and 1 is where they lie.
  return {
    estimate,
    lower: Math.max(0, Math.min(middle - half, estimate)),
    upper: Math.min(1, Math.max(middle + half, estimate)),
  };
}

/** Where the standard normal distribution has reached a share of one half or more; by bisection. */
function normalQuantile(share: number): number {
  let [low, high] = [0, 8];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (normalDistribution(middle) < share) low = middle;
    else high = middle;
  }
  return low;
}

/** The standard normal distribution function, by its series at zero (Marsaglia 2004, "Evaluating the normal distribution"). */
function normalDistribution(x: number): number {
  let [sum, term] = [x, x];
  for (let n = 3; Math.abs(term) > Number.EPSILON * Math.abs(sum); n += 2) {
    term *= (x * x) / n;
    sum += term;
  }
  return 0.5 + (sum * Math.exp((-x * x) / 2)) / Math.sqrt(2 * Math.PI);
}
