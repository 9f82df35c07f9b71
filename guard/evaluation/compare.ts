import { EvaluationError } from '../errors.ts';
import { type BootstrapOptions, type Interval, type Metric, pairedBootstrap } from './bootstrap.ts';
import {
  areaUnderRoc,
  averagePrecision,
  brier,
  confusionAt,
  expectedCalibrationError,
  truePositiveRateAt,
} from './metrics.ts';
import { answersTo, hasBoth, type Question, questionsOf, type System, systemsOf } from './questions.ts';
import type { Row, Run } from './run.ts';

/** One metric of one question, of two systems on the same samples. */
export interface Difference extends Question {
  readonly metric: string;
  readonly samples: number;
  readonly positives: number;
  readonly before: number;
  readonly after: number;
  /** `after - before`, with the interval of the paired bootstrap: beyond chance where it leaves zero out. */
  readonly difference: Interval;
}

/** Two runs on the samples that both have. */
export interface Comparison {
  readonly common: number;
  readonly onlyBefore: number;
  readonly onlyAfter: number;
  readonly differences: readonly Difference[];
}

/** By name, of a system with its threshold; those that take scores for probabilities are of scores from 0 to 1. */
const comparedMetrics: Readonly<Record<string, (threshold: number) => Metric>> = {
  AUPRC: () => averagePrecision,
  AUROC: () => areaUnderRoc,
  'TPR at 1% FPR': () => (answers) => truePositiveRateAt(answers, 0.01),
  'F1 at the threshold': (threshold) => (answers) => confusionAt(answers, threshold).f1,
  ECE: () => (answers) => expectedCalibrationError(answers),
  Brier: () => brier,
};

/**
 * Compares the guard's scores of two runs, question by question, on the samples that both have.
 * @throws EvaluationError `run-invalid` where they have no sample in common, or label one differently
 */
export function compareRuns(before: Run, after: Run, options: BootstrapOptions = {}): Comparison {
  const later = new Map(after.rows.map((row) => [row.id, row]));
  const pairs = before.rows.flatMap((row): [Row, Row][] => {
    const other = later.get(row.id);
    return other ? [[row, other]] : [];
  });
  if (pairs.length === 0) {
    throw new EvaluationError(
      'run-invalid',
      'The two runs have no sample in common: samples are matched by their ids.',
    );
  }
  const differing = pairs.find(([a, b]) => a.unsafe !== b.unsafe);
  if (differing) {
    const [{ id }] = differing;
    throw new EvaluationError(
      'run-invalid',
      `The two runs label the sample ${JSON.stringify(id)} differently; run one of them again on the other's data.`,
    );
  }
  const known = new Set(after.categories.map(({ code }) => code));
  const questions = questionsOf(before).filter(({ code }) => code === undefined || known.has(code));
  const [rowsBefore, rowsAfter] = [pairs.map(([row]) => row), pairs.map(([, row]) => row)];
  return {
    common: pairs.length,
    onlyBefore: before.rows.length - pairs.length,
    onlyAfter: after.rows.length - pairs.length,
    differences: questions.flatMap((question) =>
      differencesIn(question, [systemsOf(before)[0]!, rowsBefore], [systemsOf(after)[0]!, rowsAfter], options),
    ),
  };
}

type Answering = readonly [system: System, rows: readonly Row[]];

/** The metrics of one question, of two systems; nothing where the samples that both answered are of one kind only. */
function differencesIn(
  question: Question,
  [systemBefore, rowsBefore]: Answering,
  [systemAfter, rowsAfter]: Answering,
  options: BootstrapOptions = {},
): Difference[] {
  const scores = new Map(answersTo(question, systemAfter, rowsAfter).map(({ id, score }) => [id, score]));
  const before = answersTo(question, systemBefore, rowsBefore).filter(({ id }) => scores.has(id));
  const after = before.map((answer) => ({ ...answer, score: scores.get(answer.id)! }));
  if (!hasBoth(before)) return [];
  return Object.entries(comparedMetrics).map(([metric, of]) => {
    const [ofBefore, ofAfter] = [of(systemBefore.threshold), of(systemAfter.threshold)];
    return {
      ...question,
      metric,
      samples: before.length,
      positives: before.filter(({ label }) => label === 1).length,
      before: ofBefore(before)!,
      after: ofAfter(after)!,
      difference: pairedBootstrap(before, after, [ofBefore, ofAfter], options),
    };
  });
}
