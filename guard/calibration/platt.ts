import * as z from 'zod';
import { CalibrationError } from '../errors.ts';
import { countClasses, type Labelled } from '../evaluation/metrics.ts';
import { logOdds, sigmoid } from './log-odds.ts';
import type { Method } from './method.ts';

export interface Platt {
  readonly slope: number;
  readonly intercept: number;
}

/**
 * Platt scaling (Platt 1999): `sigmoid(slope * log-odds + intercept)`, by maximum likelihood against targets that are
 * drawn a little from 0 and 1 to the middle, as if one sample more of either kind had been seen.
 *
 * The fit is Newton's method with backtracking, with sums that do not cancel, of Lin, Lin and Weng (2007, "A note on
 * Platt's probabilistic outputs for support vector machines"), whose A and B are `-slope` and `-intercept`.
 */
export const platt: Method<'labels', Platt> = {
  needs: 'labels',
  parameters: z.strictObject({ slope: z.number().positive(), intercept: z.number() }),
  fit,
  apply: ({ slope, intercept }, score) => sigmoid(slope * logOdds(score) + intercept),
};

/** A score as its log-odds, and the probability that the fit should give it. */
interface Target {
  readonly odds: number;
  readonly target: number;
}

const mostIterations = 100;
/** A step that lowers the loss by less than this share of what its slope promises is halved. */
const sufficientDecrease = 1e-4;
const smallestStep = 1e-10;
/** Added to the diagonal of the Hessian, which is singular where all scores are equal. */
const ridge = 1e-12;

/** @throws CalibrationError `fit-impossible` where the labels do not rise with the scores */
function fit(samples: readonly Labelled[]): Platt {
  const { positives, negatives } = countClasses(samples);
  const targets = samples.map(({ score, label }): Target => {
    const target = label === 1 ? (positives + 1) / (positives + 2) : 1 / (negatives + 2);
    return { odds: logOdds(score), target };
  });
  let parameters: Platt = { slope: 0, intercept: Math.log((positives + 1) / (negatives + 1)) };
  for (let iteration = 0; iteration < mostIterations; iteration++) {
    const next = newtonStep(targets, parameters);
    if (next === undefined) break;
    parameters = next;
  }
  if (parameters.slope > 0) return parameters;
  throw new CalibrationError(
    'fit-impossible',
    `Platt scaling needs unsafe samples to score higher than safe ones, but of these ${samples.length} they do not: ` +
      'are the labels turned round, or is it another category?',
  );
}

/** Better parameters; `undefined` where these are the best. */
function newtonStep(targets: readonly Target[], parameters: Platt): Platt | undefined {
  const { slope, intercept } = parameters;
  let [bySlope, byIntercept] = [0, 0];
  let [slopes, mixed, intercepts] = [ridge, 0, ridge];
  for (const { odds, target } of targets) {
    const probability = sigmoid(slope * odds + intercept);
    const curvature = probability * sigmoid(-(slope * odds + intercept));
    bySlope += (probability - target) * odds;
    byIntercept += probability - target;
    slopes += curvature * odds * odds;
    mixed += curvature * odds;
    intercepts += curvature;
  }
  const tolerance = 1e-10 * targets.length;
  if (Math.abs(bySlope) < tolerance && Math.abs(byIntercept) < tolerance) return undefined;
  const determinant = slopes * intercepts - mixed * mixed;
  const direction = {
    slope: -(intercepts * bySlope - mixed * byIntercept) / determinant,
    intercept: -(slopes * byIntercept - mixed * bySlope) / determinant,
  };
  const promised = bySlope * direction.slope + byIntercept * direction.intercept;
  const before = loss(targets, parameters);
  for (let step = 1; step >= smallestStep; step /= 2) {
    const next = { slope: slope + step * direction.slope, intercept: intercept + step * direction.intercept };
    if (loss(targets, next) < before + sufficientDecrease * step * promised) return next;
  }
  return undefined;
}

/** Negative log-likelihood, summed; `log(1 + e^x)` from the side where it does not overflow. */
function loss(targets: readonly Target[], { slope, intercept }: Platt): number {
  return targets.reduce((sum, { odds, target }) => {
    const x = slope * odds + intercept;
    return sum + Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))) - target * x;
  }, 0);
}
