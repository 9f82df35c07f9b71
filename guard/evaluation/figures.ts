import { type BootstrapOptions, bootstrap, type Interval } from './bootstrap.ts';
import { type CategoryConfusion, categoryConfusion } from './confusion.ts';
import { type Latency, latencyOf } from './latency.ts';
import * as metrics from './metrics.ts';
import { type Answer, answersTo, type Question, questionsOf, type System, systemsOf } from './questions.ts';
import type { Run } from './run.ts';

/** How well one system answers one question. Ranking metrics are null without samples of both kinds. */
export interface Figures extends Question {
  readonly system: string;
  readonly samples: number;
  readonly positives: number;
  readonly ranking: RankingFigures | null;
  /** At the run's threshold; null, as is `probability`, where scores are not from 0 to 1. */
  readonly decision: DecisionFigures | null;
  /** How far the scores are to be taken as probabilities. */
  readonly probability: ProbabilityFigures | null;
}

/** What the order of the scores is worth, whatever their scale; with bootstrap intervals. */
export interface RankingFigures {
  readonly auprc: Interval;
  readonly auroc: Interval;
  /** The true positive rate at a false positive rate of 1%. */
  readonly truePositiveRateAt1: Interval;
  readonly bestF1: { readonly f1: number; readonly threshold: number };
}

export interface DecisionFigures {
  readonly threshold: number;
  readonly truePositives: number;
  readonly falsePositives: number;
  readonly falseNegatives: number;
  readonly trueNegatives: number;
  readonly precision: number;
  readonly recall: number;
  readonly f1: number;
  readonly accuracy: number;
}

export interface ProbabilityFigures {
  /** Expected calibration error, 15 bins of equal width. */
  readonly ece: number;
  readonly brier: number;
  readonly logLoss: number;
}

/** All that a run comes to. */
export interface Evaluation {
  readonly samples: {
    readonly total: number;
    readonly unsafe: number;
    readonly safe: number;
    readonly unknown: number;
    readonly failed: number;
  };
  readonly figures: readonly Figures[];
  /** The guard's overall decisions at other thresholds than the run's. */
  readonly thresholds: readonly DecisionFigures[];
  readonly confusion: CategoryConfusion | null;
  readonly latency: Latency | null;
}
