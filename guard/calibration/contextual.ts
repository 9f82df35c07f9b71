import * as z from 'zod';
import type { ContentFree, Method } from './method.ts';
import { mean, withoutPrior } from './prior.ts';

export interface Contextual {
  /** What was measured; the prior is the mean of the scores. */
  readonly contentFree: readonly ContentFree[];
}

/** The texts of the paper: a guard that leans to neither side gives them 0.5. */
export const contentFreeTexts = ['N/A', '[MASK]', ''] as const;

/**
 * Contextual calibration (Zhao et al. 2021, arXiv 2102.09690): takes off the prior that the instruction has where the
 * conversation says nothing. It needs no labels and no data, and helped most on prompts (arXiv 2410.10414).
 */
export const contextual: Method<'contentFree', Contextual> = {
  needs: 'contentFree',
  parameters: z.strictObject({
    contentFree: z.array(z.strictObject({ text: z.string(), score: z.number().min(0).max(1) })).min(1),
  }),
  fit: (contentFree) => ({ contentFree }),
  apply: ({ contentFree }, score) => withoutPrior(score, mean(contentFree.map((measured) => measured.score))),
};
