import { logOdds, sigmoid } from './log-odds.ts';

/**
 * A score freed of what the prompt alone makes the model say: both classes are divided by their probability under the
 * prior and made to sum to 1 again, which in log-odds is a subtraction. A score equal to the prior becomes 0.5.
 */
export const withoutPrior = (score: number, prior: number): number => sigmoid(logOdds(score) - logOdds(prior));

export const mean = (scores: readonly number[]): number =>
  scores.reduce((sum, score) => sum + score, 0) / scores.length;
