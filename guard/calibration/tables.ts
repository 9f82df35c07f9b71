import { beyondChanceText, decimals, metricTitles, pValue, testNotes, withInterval } from '../evaluation/tables.ts';
import type { Table } from '../report/table.ts';
import type { Calibration } from './calibration.ts';
import { metricNames, type PartReport } from './report.ts';

const cellsOf = ({ role, code, samples, positives }: PartReport): string[] => [
  role,
  code ?? 'whole policy',
  String(samples),
  String(positives),
];

/** What a calibration changed, as tables for a terminal or a page. */
export function calibrationTables(calibration: Calibration, parts: readonly PartReport[]): Table[] {
  if (parts.length === 0) return [];
  const tests = parts
    .flatMap(({ metrics }) => Object.values(metrics))
    .filter((change) => change && change.p !== null).length;
  const probabilities: Table = {
    title: 'Probabilities, on samples that the calibration was not fitted on',
    columns: [
      'role',
      'score',
      'samples',
      'unsafe',
      'metric',
      'before',
      'after',
      'change',
      'adjusted p',
      'beyond chance',
    ],
    rows: parts.flatMap((part) =>
      metricNames.map((name) => {
        const change = part.metrics[name];
        return [
          ...cellsOf(part),
          metricTitles[name],
          withInterval(change?.before),
          withInterval(change?.after),
          withInterval(change?.change),
          pValue(change?.pHolm ?? null),
          beyondChanceText(change?.beyondChance ?? null),
        ];
      }),
    ),
    notes: [
      'In brackets the 95% bootstrap interval; of the change it is paired. Less is better of ECE, Brier and log loss.',
      'ECE is over 15 bins of equal width; its interval leans upwards, since resampling adds noise to every bin.',
      ...testNotes(tests),
    ],
  };
  const decided = parts.flatMap((part) => (part.decision ? [{ part, decision: part.decision }] : []));
  if (decided.length === 0) return [probabilities];
  const thresholds: Table = {
    title: 'Thresholds, on the same samples',
    columns: [
      'role',
      'score',
      'samples',
      'unsafe',
      'chosen by',
      'threshold',
      'recall',
      'false positives',
      'precision',
      'F1',
    ],
    rows: decided.map(({ part, decision }) => {
      const { threshold, recall, precision, f1, falsePositiveRate } = decision;
      const own = calibration.roles[part.role]!;
      const rule = (part.code === undefined ? own.overall : own.categories[part.code]!).threshold!.rule;
      const ratios = [recall, falsePositiveRate, precision, f1].map(withInterval);
      return [...cellsOf(part), rule, decimals(threshold), ...ratios];
    }),
    notes: ['A threshold was chosen on the samples of the fit; here it may keep a little less than it promised there.'],
  };
  return [probabilities, thresholds];
}
