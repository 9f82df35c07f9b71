/** From scores to probabilities: fits, their file, and what they change. */
export { type Calibration, type CalibrationPart, parseCalibration, type RoleCalibration } from './calibration.ts';
export { type ContentFreeAnswer, type FitOptions, type FitSubject, fitCalibration, type LeftOut } from './fit.ts';
export { measureContentFree } from './measure.ts';
export type { ContentFree, Material, Method } from './method.ts';
export {
  applyMap,
  type CalibrationMap,
  calibratedBy,
  fitMap,
  type MethodName,
  methodNames,
  methods,
} from './methods.ts';
export { fitNotes } from './notes.ts';
export { type Change, type MetricName, type PartReport, reportCalibration } from './report.ts';
export { parseRule } from './rule.ts';
export { type Scored, split } from './samples.ts';
