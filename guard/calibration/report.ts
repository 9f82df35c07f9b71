import {
  type BootstrapOptions,
  bootstrap,
  type Interval,
  type Metric,
  pairedBootstrap,
} from '../evaluation/bootstrap.ts';
import { type Decision, decisionAt } from '../evaluation/decision.ts';
import {
  averagePrecision,
  brier,
  countClasses,
  expectedCalibrationError,
  type Labelled,
  logLoss,
} from '../evaluation/metrics.ts';
import type { Role } from '../messages.ts';
import type { Calibration, CalibrationPart } from './calibration.ts';
import { calibratedBy } from './methods.ts';
import { type Scored, scoreSets } from './samples.ts';

/** A metric of raw scores and of probabilities, on the same samples. */
export interface Change {
  readonly before: Interval;
  readonly after: Interval;
  /** `after - before`, paired: beyond chance where its interval leaves zero out. */
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

const metrics = {
  /** Expected calibration error, 15 bins of equal width. */
  ece: (samples) => expectedCalibrationError(samples),
  brier,
  logLoss,
  /** AUPRC says whether the ranking was kept; of one class alone it says nothing. */
  auprc: (samples) => (hasBoth(samples) ? averagePrecision(samples) : null),
} satisfies Record<string, Metric>;

export type MetricName = keyof typeof metrics;
export const metricNames = Object.keys(metrics) as MetricName[];

/** Holds probabilities against labels before and after, for every part of a calibration. */
export function reportCalibration(
  calibration: Calibration,
  samples: readonly Scored[],
  options: BootstrapOptions = {},
): PartReport[] {
  return scoreSets(samples).flatMap(({ role, code, labels }) => {
    const own = calibration.roles[role];
    const part = code === undefined ? own?.overall : own?.categories[code];
    if (part === undefined) return [];
    return [{ role, ...(code === undefined ? {} : { code }), ...reportPart(part, labels, options) }];
  });
}

function reportPart({ map, threshold }: CalibrationPart, labels: readonly Labelled[], options: BootstrapOptions) {
  const calibrated = calibratedBy(map, labels);
  const changes = metricNames.map((name) => [name, changeOf(metrics[name], labels, calibrated, options)] as const);
  return {
    samples: labels.length,
    positives: countClasses(labels).positives,
    metrics: Object.fromEntries(changes) as PartReport['metrics'],
    decision: threshold && labels.length > 0 ? decisionAt(calibrated, threshold.value, options) : null,
  };
}

function changeOf(
  metric: Metric,
  before: readonly Labelled[],
  after: readonly Labelled[],
  options: BootstrapOptions,
): Change | null {
  if (metric(before) === null) return null;
  return {
    before: bootstrap(before, metric, options),
    after: bootstrap(after, metric, options),
    change: pairedBootstrap(before, after, metric, options),
  };
}

function hasBoth(samples: readonly Labelled[]): boolean {
  const { positives, negatives } = countClasses(samples);
  return positives > 0 && negatives > 0;
}
