/**
 * Scores and log-odds. A score comes from two logits, so its log-odds are their difference, and that is where
 * calibration works. 0 and 1, which rounding makes of what is beyond it, have none: they, and scores closer to them,
 * are read as the numbers 2^-53 away, so that log-odds lie between -36.7 and 36.7.
 */
const closest = 2 ** -53;

/** log(p / (1 - p)) of a score from 0 to 1. */
export function logOdds(score: number): number {
  const inside = Math.min(Math.max(score, closest), 1 - closest);
  return Math.log(inside) - Math.log1p(-inside);
}

/** The score that has these log-odds. */
export const sigmoid = (odds: number): number => 1 / (1 + Math.exp(-odds));
