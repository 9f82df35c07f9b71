import { CalibrationError } from '../errors.ts';
import { countClasses, type ThresholdRule, thresholdFor } from '../evaluation/metrics.ts';
import type { Role } from '../messages.ts';
import { type Calibration, type CalibrationPart, formatName, formatVersion, type Subject } from './calibration.ts';
import type { ContentFree } from './method.ts';
import { calibratedBy, fitMap, type MethodName } from './methods.ts';
import { chooseThreshold, describeRule } from './rule.ts';
import { type Scored, type ScoreSet, scoreSets } from './samples.ts';

/** What a guard said of a text that says nothing. */
export interface ContentFreeAnswer {
  readonly role: Role;
  readonly text: string;
  readonly score: number;
  /** By code. */
  readonly categoryScores?: Readonly<Record<string, number>> | undefined;
}

export interface FitOptions {
  readonly method: MethodName;
  /** How thresholds are chosen; without it the file has none. */
  readonly threshold?: ThresholdRule | undefined;
  /** For `contextual`. */
  readonly contentFree?: readonly ContentFreeAnswer[];
  /** Where the samples are from, for the file: a calibration flatters itself on what it was fitted on. */
  readonly fitted?: Calibration['fitted'];
  /** Of each category that is left out. */
  readonly onLeftOut?: (category: LeftOut) => void;
}

/** A category that could not be fitted. */
export interface LeftOut {
  readonly role: Role;
  readonly code: string;
  readonly reason: string;
}

/** What the calibrated scores are of, and so the only thing that the calibration may be used with. */
export interface FitSubject extends Subject {
  /** Hashes; of the instruction one a role. */
  readonly policy: string;
  readonly instruction: Readonly<Record<Role, string>>;
  readonly categoryMode: Calibration['categoryMode'];
}

/**
 * Fits a calibration on scored samples: every role by itself, and under it every category. Thresholds are chosen on the
 * same samples. A category whose samples do not suffice is left out and told of, and one that reaches no such threshold has none.
 *
 * @throws CalibrationError `fit-impossible` or `threshold-unreachable` where a role's samples do not suffice, with
 *   their first line
 */
export function fitCalibration(samples: readonly Scored[], subject: FitSubject, options: FitOptions): Calibration {
  const { model, dtype, policy, instruction, categoryMode } = subject;
  const sets = scoreSets(samples);
  if (sets.length === 0)
    throw new CalibrationError(
      'fit-impossible',
      'There is no sample to fit on: score some, or fit on a larger share (--fit).',
    );
  const fitted = sets
    .filter(({ code }) => code === undefined)
    .map((set) => {
      const { role, what } = set;
      const categories = sets.flatMap((category) => {
        if (category.code === undefined || category.role !== role) return [];
        const { code } = category;
        const tell = (reason: string) => options.onLeftOut?.({ role, code, reason });
        const part = wherePossible(() => fitPart(category, options, thresholdFor), category, tell);
        return part ? [[code, part] as const] : [];
      });
      return [
        role,
        {
          instruction: instruction[role],
          overall: fitPart(set, options, (labels, rule) => chooseThreshold(labels, rule, what)),
          categories: Object.fromEntries(categories),
        },
      ] as const;
    });
  return {
    format: formatName,
    version: formatVersion,
    model,
    dtype,
    policy,
    categoryMode,
    roles: Object.fromEntries(fitted),
    ...(options.fitted ? { fitted: options.fitted } : {}),
  };
}

function fitPart(
  set: ScoreSet,
  { method, threshold: rule, contentFree = [] }: FitOptions,
  choose: typeof thresholdFor,
): CalibrationPart {
  const measured = contentFree.flatMap(({ role, text, score, categoryScores }): ContentFree[] => {
    const own = set.code === undefined ? score : categoryScores?.[set.code];
    return role === set.role && own !== undefined ? [{ text, score: own }] : [];
  });
  const map = fitMap(method, { ...set, contentFree: measured }, set.what);
  const value = rule ? choose(calibratedBy(map, set.labels), rule) : null;
  return {
    map,
    ...(rule && value !== null ? { threshold: { rule: describeRule(rule), value } } : {}),
    samples: set.labels.length,
    positives: countClasses(set.labels).positives,
  };
}

function wherePossible<T>(task: () => T, { labels }: ScoreSet, tell: (reason: string) => void): T | undefined {
  try {
    return task();
  } catch (error) {
    if (!(error instanceof CalibrationError && error.code === 'fit-impossible')) throw error;
    const { positives, negatives } = countClasses(labels);
    // The commonest reason in the same words, so that categories can be listed together.
    tell(positives === 0 || negatives === 0 ? 'Samples of either label are missing.' : error.message);
    return undefined;
  }
}
