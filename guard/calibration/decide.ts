import type { CalibrationPart } from './calibration.ts';
import { applyMap } from './methods.ts';

/** What a score comes to. */
export interface Decision {
  /** The probability; `null` where the score is not calibrated. */
  readonly calibrated: number | null;
  readonly threshold: number;
  /** Whether the probability, or the score where there is none, reaches the threshold. */
  readonly flagged: boolean;
}

/** @param asked the caller's threshold, which goes before the one that was chosen on data */
export function decide(score: number, part: CalibrationPart | undefined, asked: number | undefined): Decision {
  const calibrated = part ? applyMap(part.map, score) : null;
  const threshold = asked ?? part?.threshold?.value ?? 0.5;
  return { calibrated, threshold, flagged: (calibrated ?? score) >= threshold };
}
