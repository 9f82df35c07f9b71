import type { BootstrapOptions, Interval } from '../evaluation/bootstrap.ts';
import { type Decision, decisionAt } from '../evaluation/decision.ts';
import { countClasses } from '../evaluation/metrics.ts';
import { comparePaired, type PairedFigure, type Pairing } from '../evaluation/paired.ts';
import type { Role } from '../messages.ts';
import type { Calibration } from './calibration.ts';
import { calibratedBy } from './methods.ts';
import { type Scored, scoreSets } from './samples.ts';

/** A metric of raw scores and of probabilities, on the same samples, with the test of their difference. */
export interface Change extends Omit<PairedFigure, 'metric' | 'difference'> {
  /** `after - before`, paired. */
  readonly change: Interval;
}

/** What a calibration did to the scores of a role, or of a category under it, on samples that it was not fitted on. */
export interface PartReport {
  readonly role: Role;
  /** Absent of the whole policy. */
  readonly code?: string;
  readonly samples: number;
  readonly positives: number;
  /** By the name of the metric; `null` where the samples do not define it. */
  readonly metrics: Readonly<Record<MetricName, Change | null>>;
  /** At the threshold that was chosen; `null` without one. */
  readonly decision: Decision | null;
}

/** ECE (15 bins), Brier and log loss are of probabilities; AUPRC says whether the ranking was kept. */
export const metricNames = ['ece', 'brier', 'logLoss', 'auprc'] as const;
export type MetricName = (typeof metricNames)[number];

/** Holds probabilities against labels before and after, for every part of a calibration; all tests are one family. */
export function reportCalibration(
  calibration: Calibration,
  samples: readonly Scored[],
  options: BootstrapOptions = {},
): PartReport[] {
  const parts = scoreSets(samples).flatMap(({ role, code, labels }) => {
    const own = calibration.roles[role];
    const part = code === undefined ? own?.overall : own?.categories[code];
    if (part === undefined) return [];
    return [
      { role, ...(code === undefined ? {} : { code }), part, labels, calibrated: calibratedBy(part.map, labels) },
    ];
  });
  const pairings = parts.map(({ labels, calibrated }): Pairing => {
    const pairs = labels.map(({ label, score }, i) => ({ label, before: score, after: calibrated[i]!.score }));
    return { pairs, metrics: metricNames };
  });
  const { figures } = comparePaired(pairings, options);
  return parts.map(({ part: { threshold }, labels, calibrated, ...named }, i) => ({
    ...named,
    samples: labels.length,
    positives: countClasses(labels).positives,
    metrics: changesOf(figures[i]!),
    decision: threshold && labels.length > 0 ? decisionAt(calibrated, threshold.value, options) : null,
  }));
}

function changesOf(figures: readonly PairedFigure[]): PartReport['metrics'] {
  const changes = metricNames.map((name) => {
    const found = figures.find(({ metric }) => metric === name);
    if (!found) return [name, null] as const;
    const { metric: _metric, difference: change, ...figure } = found;
    return [name, { ...figure, change }] as const;
  });
  return Object.fromEntries(changes) as PartReport['metrics'];
}
