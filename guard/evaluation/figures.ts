import { type BootstrapOptions, bootstrapEach, type Interval, type Settings, settingsOf } from './bootstrap.ts';
import { type CategoryConfusion, categoryConfusion } from './confusion.ts';
import { type Decision, decisionAt, decisionOf } from './decision.ts';
import { type Latency, latencyOf } from './latency.ts';
import { type Mass, massOf } from './mass.ts';
import {
  areaUnderRoc,
  averagePrecision,
  bestF1,
  brier,
  expectedCalibrationError,
  logLoss,
  truePositiveRateAt,
} from './metrics.ts';
import { type OrderEffects, orderEffects } from './order-effects.ts';
import { type Answer, answersTo, hasBoth, type Question, questionsOf, systemsOf } from './questions.ts';
import type { Run } from './run.ts';

/** How well one system answers one question. */
export interface Figures extends Question {
  readonly system: string;
  readonly samples: number;
  readonly positives: number;
  /** What the order of the scores is worth, whatever their scale; null without samples of both kinds. */
  readonly ranking: RankingFigures | null;
  /** At the system's threshold, or each role's own; null, as is `probability`, where scores are not from 0 to 1. */
  readonly decision: Decision | null;
  readonly probability: ProbabilityFigures | null;
}

export interface RankingFigures {
  readonly auprc: Interval;
  readonly auroc: Interval;
  /** The true positive rate at a false positive rate of 1%. */
  readonly truePositiveRateAt1: Interval;
  /** At the threshold that is best for these samples, of each resample for itself. */
  readonly bestF1: Interval;
  readonly bestF1Threshold: number;
}

/** How far scores are to be taken as probabilities. */
export interface ProbabilityFigures {
  /** Expected calibration error, 15 bins of equal width. */
  readonly ece: Interval;
  readonly brier: Interval;
  readonly logLoss: Interval;
}

/** All that a run comes to. */
export interface Evaluation {
  readonly samples: {
    readonly judged: number;
    readonly unsafe: number;
    readonly safe: number;
    /** Of unknown label. */
    readonly unknown: number;
    readonly failed: number;
  };
  readonly figures: readonly Figures[];
  /** The guard's overall decisions at other thresholds than the run's. */
  readonly thresholds: readonly Decision[];
  readonly confusion: CategoryConfusion | null;
  readonly orders: OrderEffects | null;
  readonly mass: Mass | null;
  readonly latency: Latency | null;
  /** Of the intervals. */
  readonly settings: Settings;
}

/** Thresholds at which the guard's decisions are shown beside the run's own. */
const shownThresholds = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95];

/** Every question of a run, of every system that answers it. Nothing but the run and the seed decides the outcome. */
export function evaluate(run: Run, options: BootstrapOptions = {}): Evaluation {
  const { rows, failures } = run;
  const systems = systemsOf(run);
  const figures = questionsOf(run).flatMap((question) =>
    systems.flatMap((system): Figures[] => {
      const answers = answersTo(question, system, rows);
      if (answers.length === 0) return [];
      return [{ ...question, system: system.name, ...figuresOf(answers, options) }];
    }),
  );
  const labelled = (label: 0 | 1 | null) => rows.filter(({ unsafe }) => unsafe === label).length;
  const own = answersTo({ way: 'overall' }, systems[0]!, rows);
  return {
    samples: {
      judged: rows.length,
      unsafe: labelled(1),
      safe: labelled(0),
      unknown: labelled(null),
      failed: failures.length,
    },
    figures,
    thresholds: own.length === 0 ? [] : shownThresholds.map((at) => decisionAt(own, at, options)),
    confusion: categoryConfusion(run),
    orders: orderEffects(run),
    mass: massOf(rows),
    latency: latencyOf(rows.map(({ milliseconds }) => milliseconds)),
    settings: settingsOf(options),
  };
}

function figuresOf(answers: readonly Answer[], options: BootstrapOptions) {
  const probabilities = answers.every(({ score }) => score >= 0 && score <= 1);
  return {
    samples: answers.length,
    positives: answers.filter(({ label }) => label === 1).length,
    ranking: hasBoth(answers) ? rankingOf(answers, options) : null,
    decision: probabilities ? decisionOf(answers, options) : null,
    probability: probabilities ? bootstrapEach(answers, probabilityOf, options) : null,
  };
}

const probabilityOf = (answers: readonly Answer[]) => ({
  ece: expectedCalibrationError(answers),
  brier: brier(answers),
  logLoss: logLoss(answers),
});

function rankingOf(answers: readonly Answer[], options: BootstrapOptions): RankingFigures {
  const intervals = bootstrapEach(
    answers,
    (drawn) => ({
      auprc: averagePrecision(drawn),
      auroc: areaUnderRoc(drawn),
      truePositiveRateAt1: truePositiveRateAt(drawn, 0.01),
      bestF1: bestF1(drawn)?.f1 ?? null,
    }),
    options,
  );
  return { ...intervals, bestF1Threshold: bestF1(answers)!.threshold };
}
