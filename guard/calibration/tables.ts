import type { Interval } from '../evaluation/bootstrap.ts';
import { decimals, withInterval } from '../evaluation/tables.ts';
import type { Table } from '../report/table.ts';
import type { Calibration } from './calibration.ts';
import { type MetricName, metricNames, type PartReport } from './report.ts';

const titles: Record<MetricName, string> = { ece: 'ECE', brier: 'Brier', logLoss: 'log loss', auprc: 'AUPRC' };

const cellsOf = ({ role, code, samples, positives }: PartReport): string[] => [
  role,
  code ?? 'whole policy',
  String(samples),
  String(positives),
];

/** Whether a difference is beyond chance: its interval leaves zero out. */
const beyondChance = ({ lower, upper }: Interval): string => (lower > 0 || upper < 0 ? 'yes' : 'no');

/** What a calibration changed, as tables for a terminal or a page. */
export function calibrationTables(calibration: Calibration, parts: readonly PartReport[]): Table[] {
  if (parts.length === 0) return [];
  const probabilities: Table = {
    title: 'Probabilities, on samples that the calibration was not fitted on',
    columns: ['role', 'score', 'samples', 'unsafe', 'metric', 'before', 'after', 'change', 'beyond chance'],
    rows: parts.flatMap((part) =>
      metricNames.map((name) => {
        const change = part.metrics[name];
        return [
          ...cellsOf(part),
          titles[name],
          withInterval(change?.before),
          withInterval(change?.after),
          withInterval(change?.change),
          change ? beyondChance(change.change) : '–',
        ];
      }),
    ),
    notes: [
      'In brackets the 95% bootstrap interval; of the change it is paired. Less is better of ECE, Brier and log loss.',
      'ECE is over 15 bins of equal width; its interval leans upwards, since resampling adds noise to every bin.',
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
