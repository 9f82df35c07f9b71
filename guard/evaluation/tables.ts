import type { Table } from '../report/table.ts';
import type { Interval, Settings } from './bootstrap.ts';
import type { Difference, Refusal, SystemComparison } from './compare.ts';
import type { Decision } from './decision.ts';
import type { Evaluation, Figures } from './figures.ts';
import { describeDifferences } from './identity-differences.ts';
import type { ComparedMetric } from './laid-out.ts';
import type { Mass } from './mass.ts';
import type { PublishedFigure } from './published.ts';
import { ofRole, questionName, type Way } from './questions.ts';
import type { Run } from './run.ts';

/** A figure, or a dash where there is none; what rounds to zero has no sign. */
export const decimals = (value: number | null | undefined, digits = 4): string =>
  value?.toFixed(digits).replace(/^-(?=[0.]+$)/, '') ?? '–';

export const withInterval = (interval: Interval | null | undefined): string =>
  interval ? `${decimals(interval.estimate)} [${decimals(interval.lower, 3)}, ${decimals(interval.upper, 3)}]` : '–';

/** What a reader must know before the first figure. */
export function describeRun(
  { identity, data, categories, rows, fittedOn = 0 }: Run,
  { samples, mass, settings }: Evaluation,
): string[] {
  const { model, device, dtype, hashes, options } = identity;
  const { judged, unsafe, safe, unknown, failed } = samples;
  const hash = (value: string | null) => value?.slice(0, 12) ?? 'none';
  const windowed = rows.filter(({ windows }) => windows > 1).length;
  return [
    `Data: ${data.name} (${data.format}, ${hash(data.hash)}), ${judged} samples: ${unsafe} unsafe, ${safe} safe, ${unknown} of unknown label`,
    `Model: ${model} (${hash(hashes.model)}), weights in ${dtype}, on ${device}`,
    `Policy: ${categories.map(({ code, name }) => `${code} ${name}`).join(', ')} (${hash(hashes.policy)})`,
    `Instruction ${hash(hashes.instruction.user)} about users, ${hash(hashes.instruction.agent)} about agents`,
    `Calibration ${hash(hashes.calibration)}, options ${JSON.stringify(options)}`,
    ...(mass ? describeMass(mass) : []),
    ...(data.assumeSafe ? ['What no known label calls unsafe was taken for safe.'] : []),
    ...(fittedOn > 0
      ? [`The calibration was fitted on ${fittedOn} of these samples: of calibrated scores, all figures flatter it.`]
      : []),
    ...(windowed > 0 ? [`${windowed} samples are longer than the context and were read in windows.`] : []),
    ...(failed > 0 ? [`${failed} samples could not be judged and are in no figure.`] : []),
    describeSettings(settings),
  ];
}

/** The share of samples without a verdict from which something is wrong with the question, and not with them. */
const manyWithout = 0.05;

const describeMass = ({ median, low }: Mass): string[] => [
  `Mass (safe + unsafe over the whole vocabulary): median ${decimals(median)}, below 0.5 of ${decimals(100 * low, 1)}% of the samples`,
  ...(low > manyWithout
    ? ['Warning: the model often answers with no verdict. Is it a guard, asked in its own format (--prompt-format)?']
    : []),
];
/** What intervals came about by. */
export const describeSettings = ({ resamples, confidence, seed, version }: Settings): string =>
  `Intervals of ${100 * confidence}% by ${resamples} resamples, seed ${seed}; llama-guard-webgpu ${version}`;

export function tablesOf(run: Run, evaluation: Evaluation): Table[] {
  const overall = evaluation.figures.filter(({ way }) => way === 'overall');
  return [
    rankingTable(overall),
    overallDecisionTable(overall),
    probabilityTable(overall),
    thresholdTable(evaluation.thresholds),
    ...(['1-vs-all', '1-vs-benign'] as const).flatMap((way) => categoryTable(run, evaluation, way)),
    ...confusionTable(run, evaluation),
    ...orderTable(evaluation),
    ...latencyTable(run, evaluation),
  ];
}

function rankingTable(overall: readonly Figures[]): Table {
  return {
    title: 'Overall: unsafe against safe',
    columns: ['system', 'samples', 'unsafe', 'AUPRC', 'AUROC', 'TPR at 1% FPR', 'best F1', 'at'],
    rows: overall.map(({ system, role, samples, positives, ranking }) => [
      ofRole(system, role),
      String(samples),
      String(positives),
      ...rankingCells(ranking),
      withInterval(ranking?.bestF1),
      decimals(ranking?.bestF1Threshold),
    ]),
    notes: [
      'In brackets the 95% bootstrap interval. AUPRC is the average precision: ties grouped, no interpolation.',
      ...overall.slice(0, 1).map(baseRate),
    ],
  };
}

/** What an AUPRC is to be held against. */
const baseRate = ({ samples, positives }: Figures): string =>
  `A random score would have an AUPRC of ${decimals(positives / samples, 3)}, the share of unsafe samples.`;

const rankingCells = (ranking: Figures['ranking']): string[] => [
  withInterval(ranking?.auprc),
  withInterval(ranking?.auroc),
  withInterval(ranking?.truePositiveRateAt1),
];

const overallDecisionTable = (overall: readonly Figures[]): Table => ({
  title: 'Overall: decisions at the threshold',
  columns: ['system', 'threshold', 'F1', 'precision', 'recall', 'FPR', 'accuracy'],
  rows: overall.map(({ system, role, decision }) => [
    ofRole(system, role),
    decimals(decision?.threshold, 2),
    withInterval(decision?.f1),
    withInterval(decision?.precision),
    withInterval(decision?.recall),
    withInterval(decision?.falsePositiveRate),
    withInterval(decision?.accuracy),
  ]),
  notes: [
    "Of shares, Wilson's 95% interval; of F1, which is none, the bootstrap's. FPR is the false positive rate. A threshold is a dash where roles have their own.",
  ],
});

const probabilityTable = (overall: readonly Figures[]): Table => ({
  title: 'Overall: scores as probabilities',
  columns: ['system', 'ECE', 'Brier', 'log loss'],
  rows: overall.map(({ system, role, probability }) => [
    ofRole(system, role),
    withInterval(probability?.ece),
    withInterval(probability?.brier),
    withInterval(probability?.logLoss),
  ]),
  notes: [
    'ECE is the expected calibration error over 15 bins of equal width; its interval leans upwards, since resampling adds ' +
      'noise to every bin.',
  ],
});

const decisionCells = (decision: Decision): string[] => [
  withInterval(decision.precision),
  withInterval(decision.recall),
  withInterval(decision.f1),
  withInterval(decision.falsePositiveRate),
  String(decision.truePositives),
  String(decision.falsePositives),
  String(decision.falseNegatives),
  String(decision.trueNegatives),
];
const decisionColumns = ['precision', 'recall', 'F1', 'FPR', 'TP', 'FP', 'FN', 'TN'];

const thresholdTable = (thresholds: readonly Decision[]): Table => ({
  title: 'Overall: the guard at thresholds',
  columns: ['threshold', ...decisionColumns],
  rows: thresholds.map((decision) => [decimals(decision.threshold, 2), ...decisionCells(decision)]),
  notes: [],
});

const explanations: Record<Exclude<Way, 'overall'>, string> = {
  '1-vs-all': 'What violates the category against all that is known not to.',
  '1-vs-benign': 'What violates the category against safe samples; what violates only others is left out.',
};

/** The categories by one way, their ranking and then their decisions; a system that has nothing to say of any of them is left out. */
function categoryTable({ categories }: Run, { figures }: Evaluation, way: Exclude<Way, 'overall'>): Table[] {
  const nameOf = new Map(categories.map(({ code, name }) => [code, name]));
  const known = figures.filter((row) => row.way === way && row.positives > 0);
  if (known.length === 0) return [];
  const without = categories.filter(({ code }) => !known.some((row) => row.code === code)).map(({ code }) => code);
  const cells = ({ code, system, samples, positives }: Figures) => [
    `${code} ${nameOf.get(code!)}`,
    system,
    String(samples),
    String(positives),
  ];
  const columns = ['category', 'system', 'samples', 'positives'];
  return [
    {
      title: `By category: ${way}`,
      columns: [...columns, 'AUPRC', 'AUROC', 'TPR at 1% FPR'],
      rows: known.map((row) => [...cells(row), ...rankingCells(row.ranking)]),
      notes: [explanations[way], ...(without.length > 0 ? [`No positives are known of ${without.join(', ')}.`] : [])],
    },
    {
      title: `By category: ${way}, decisions at the threshold`,
      columns: [...columns, ...decisionColumns],
      rows: known.flatMap((row) => (row.decision ? [[...cells(row), ...decisionCells(row.decision)]] : [])),
      notes: [],
    },
  ];
}

function confusionTable({ categories }: Run, { confusion }: Evaluation): Table[] {
  if (!confusion) return [];
  const nameOf = new Map(categories.map(({ code, name }) => [code, `${code} ${name}`]));
  return [
    {
      title: 'Confusion of categories',
      columns: ['labelled', ...confusion.names.map((name) => `named ${name}`)],
      rows: confusion.counts.map((counts, i) => [
        nameOf.get(confusion.names[i]!) ?? confusion.names[i]!,
        ...counts.map(String),
      ]),
      notes: [
        'A flagged sample is named by its highest category score. One that violates several categories counts in each.',
      ],
    },
  ];
}

function orderTable({ orders }: Evaluation): Table[] {
  if (!orders) return [];
  return [
    {
      title: 'Order of the categories',
      columns: ['samples', 'orders', 'mean deviation', 'mean range', 'largest range', 'undecided'],
      rows: [
        [
          String(orders.samples),
          String(orders.orders),
          ...[orders.meanDeviation, orders.meanRange, orders.largestRange].map((value) => decimals(value)),
          String(orders.undecided),
        ],
      ],
      notes: ['Scores are means over the orders. Some orders flag what is undecided, and others do not.'],
    },
  ];
}

function latencyTable({ concurrency }: Run, { latency }: Evaluation): Table[] {
  if (!latency) return [];
  const beside = concurrency === 1 ? 'one check at a time' : `${concurrency} checks side by side, the waiting included`;
  return [
    {
      title: 'Latency of a check',
      columns: ['median ms', '95th percentile ms'],
      rows: [[decimals(latency.median, 1), decimals(latency.p95, 1)]],
      notes: [`With ${beside}.`],
    },
  ];
}

/** Published figures beside the run's own, each in a column of its own. */
export function publishedTable(overall: readonly Figures[], published: readonly PublishedFigure[]): Table {
  return {
    title: 'Beside published figures',
    columns: ['system', 'AUPRC, this run', 'AUPRC, published (reference)', 'source'],
    rows: [
      ...overall.map(({ system, ranking }) => [system, withInterval(ranking?.auprc), '', 'this run']),
      ...published.map(({ system, auprc, source }) => [system, '', decimals(auprc, 3), source]),
    ],
    notes: [
      'Published figures are no results of this program: their authors measured them, on the whole set, with the models ' +
        'and policies named.',
    ],
  };
}

/** What tables call the metrics that systems are compared by. */
export const metricTitles: Readonly<Record<ComparedMetric, string>> = {
  auprc: 'AUPRC',
  auroc: 'AUROC',
  truePositiveRateAt1: 'TPR at 1% FPR',
  f1: 'F1 at the threshold',
  ece: 'ECE',
  brier: 'Brier',
  logLoss: 'log loss',
};

/** A p-value, or a dash where nothing was tested. */
export const pValue = (p: number | null): string => (p !== null && p < 0.0005 ? '<0.001' : decimals(p, 3));

/** What a test says, in words. */
export const beyondChanceText = (beyondChance: boolean | null): string =>
  beyondChance === null ? '–' : beyondChance ? 'yes' : 'no';

/** How verdicts came about, for a family of so many tests. */
export const testNotes = (tests: number): string[] => [
  `p is of a paired permutation test, adjusted for the ${tests} tests of this table by Holm's method; beyond chance below ` +
    '0.05, unless the difference rounds to 0.0000.',
  'ECE has no test: it is biased by how far scores are spread. Brier and log loss say whether probabilities got better.',
];

/** What a reader must know of a comparison before the first figure. */
export const describeComparison = ({
  differing,
  common,
  onlyBefore,
  onlyAfter,
  settings,
}: SystemComparison): string[] => [
  describeDifferences(differing),
  `${common} samples in common; ${onlyBefore} only before, ${onlyAfter} only after`,
  describeSettings(settings),
];

/** What questions could not be asked of both, those of one reason together. */
export function describeRefused(refused: readonly Refusal[]): string[] {
  const reasons = [...new Set(refused.map(({ why }) => why))];
  return reasons.map((reason) => {
    const questions = refused.filter(({ why }) => why === reason).map(questionName);
    return `Not compared: ${questions.join('; ')}: ${reason}.`;
  });
}

export function differenceTable({ before, after, differences, tests }: SystemComparison): Table {
  const same = before.system === after.system;
  const names = same ? ['before', 'after'] : [before.system, after.system];
  return {
    title: same ? `${before.system}, before and after` : `From ${before.system} to ${after.system}`,
    columns: ['question', 'metric', 'samples', 'positives', ...names, 'difference', 'p', 'adjusted', 'beyond chance'],
    rows: differences.map((row: Difference) => [
      questionName(row),
      metricTitles[row.metric],
      String(row.samples),
      String(row.positives),
      decimals(row.before.estimate),
      decimals(row.after.estimate),
      withInterval(row.difference),
      pValue(row.p),
      pValue(row.pHolm),
      beyondChanceText(row.beyondChance),
    ]),
    notes: [
      'In brackets the 95% interval of the paired bootstrap, of each difference for itself.',
      ...testNotes(tests),
    ],
  };
}
