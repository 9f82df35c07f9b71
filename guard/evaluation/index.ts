/** Labelled sets, metrics, and what a guard's scores on them come to. */
export {
  type BootstrapOptions,
  bootstrap,
  bootstrapEach,
  type Interval,
  type Metric,
  pairedBootstrap,
} from './bootstrap.ts';
export { type CategoryMap, parseCategoryMap } from './category-map.ts';
export { type Comparison, compareRuns, type Difference } from './compare.ts';
export { type FormatName, type ReadOptions, readSamples, type Sample, type ScoredSample } from './data.ts';
export { type Decision, decisionAt } from './decision.ts';
export { type Evaluation, evaluate, type Figures } from './figures.ts';
export * from './metrics.ts';
export { answersTo, type Question, questionsOf, type System, systemsOf } from './questions.ts';
export { parseRun, type Row, type Run } from './run.ts';
