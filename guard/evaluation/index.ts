/** Labelled sets, metrics, and what a guard's scores on them come to. */
export {
  type BootstrapOptions,
  bootstrap,
  bootstrapEach,
  type Interval,
  type Metric,
  type Settings,
} from './bootstrap.ts';
export { type CategoryMap, parseCategoryMap } from './category-map.ts';
export {
  type ComparedSide,
  type CompareOptions,
  compareSystems,
  type Difference,
  type Refusal,
  type Side,
  type SystemComparison,
} from './compare.ts';
export { type FormatName, type ReadOptions, readSamples, type Sample, type ScoredSample } from './data.ts';
export { type Decision, decisionAt } from './decision.ts';
export { type Evaluation, evaluate, type Figures } from './figures.ts';
export { holm } from './holm.ts';
export type { IdentityDifference } from './identity-differences.ts';
export * from './metrics.ts';
export { readOtherScores, type ScoreSource } from './other-scores.ts';
export {
  answersTo,
  decidingSystem,
  type Question,
  questionsOf,
  type System,
  systemsOf,
  type Way,
} from './questions.ts';
export { parseRun, type Row, type Run } from './run.ts';
