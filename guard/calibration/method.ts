import type * as z from 'zod';
import type { Labelled } from '../evaluation/metrics.ts';

/** A text that says nothing, and the score that it was given all the same. */
export interface ContentFree {
  readonly text: string;
  readonly score: number;
}

/** What calibrations are fitted on. */
export interface Material {
  /** Scores of known label. */
  readonly labels: readonly Labelled[];
  /** Every score, whether its label is known or not. */
  readonly scores: readonly number[];
  readonly contentFree: readonly ContentFree[];
}

/**
 * A way to turn scores into probabilities. The parameters are all that a fit leaves: they are written to the
 * calibration file as they are.
 */
export interface Method<Need extends keyof Material, Parameters> {
  /** What it is fitted on; never empty, and labels are of both kinds. */
  readonly needs: Need;
  readonly parameters: z.ZodType<Parameters>;
  fit(material: Material[Need]): Parameters;
  /** The probability of a score from 0 to 1. Never falls where the score rises. */
  apply(parameters: Parameters, score: number): number;
  /** What a reader must know of parameters that the samples did not decide, as one sentence; absent where nothing is. */
  note?(parameters: Parameters): string | undefined;
}
