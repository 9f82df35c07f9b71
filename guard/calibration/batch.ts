import * as z from 'zod';
import type { Method } from './method.ts';
import { mean, withoutPrior } from './prior.ts';

export interface Batch {
  /** The mean score of the set. */
  readonly prior: number;
}

/**
 * Batch calibration (Zhou et al. 2023, arXiv 2309.17249): takes off the mean score of a set as the prior. It needs no
 * labels, but a set like the one that will be judged, and takes it to be unsafe as often as safe: of a set with few
 * unsafe samples the probabilities come out too high.
 */
export const batch: Method<'scores', Batch> = {
  needs: 'scores',
  parameters: z.strictObject({ prior: z.number().min(0).max(1) }),
  fit: (scores) => ({ prior: mean(scores) }),
  apply: ({ prior }, score) => withoutPrior(score, prior),
};
