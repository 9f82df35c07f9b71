import { EvaluationError } from '../errors.ts';
import { type BootstrapOptions, type Settings, settingsOf } from './bootstrap.ts';
import { type IdentityDifference, identityDifferences } from './identity-differences.ts';
import { comparedMetrics, type Pair } from './laid-out.ts';
import { comparePaired, type PairedFigure, type Pairing } from './paired.ts';
import {
  answersTo,
  decidingSystem,
  hasBoth,
  type Question,
  questionName,
  questionsOf,
  type System,
  systemsOf,
  type Way,
} from './questions.ts';
import type { Identity, Row, Run } from './run.ts';

/** A system of a run. */
export interface Side {
  readonly run: Run;
  /** As `systemsOf` calls it; unless told what decides: the calibrated score where there is one, else the score. */
  readonly system?: string;
}

export interface CompareOptions extends BootstrapOptions {
  /** The ways of asking that are of interest, all unless told: the fewer tests, the less each is adjusted for. */
  readonly ways?: readonly Way[];
}

/** One metric of one question, of two systems on the same samples. */
export interface Difference extends Question, PairedFigure {
  readonly samples: number;
  readonly positives: number;
}

/** A question that cannot be asked of both sides alike, and why. */
export interface Refusal extends Question {
  readonly why: string;
}

/** What a side turned out to be. */
export interface ComparedSide {
  readonly system: string;
  /** What it decides by; null where each role has a threshold of its own. */
  readonly threshold: number | null;
  readonly identity: Identity;
}

/** Two systems on the samples that both runs have. */
export interface SystemComparison {
  readonly before: ComparedSide;
  readonly after: ComparedSide;
  /** What is not the same on both sides. */
  readonly differing: readonly IdentityDifference[];
  readonly common: number;
  readonly onlyBefore: number;
  readonly onlyAfter: number;
  readonly differences: readonly Difference[];
  readonly refused: readonly Refusal[];
  /** How many tests the differences come to, for all of which each `pHolm` is adjusted. */
  readonly tests: number;
  readonly settings: Settings;
}

/**
 * Compares two systems, of one run or of two, question by question, on the samples that both runs have and both systems
 * answered. Questions that are not the same on both sides are left out and told: a category that has another name, or
 * other labels, or is scored by itself on one side alone.
 *
 * @throws EvaluationError `system-unknown` for a name that the run does not have; `run-invalid` where the runs have no
 *   sample in common, or other texts or labels under one id; `metric-undefined` where no question is left
 */
export function compareSystems(before: Side, after: Side, options: CompareOptions = {}): SystemComparison {
  const [systemBefore, systemAfter] = [systemOf(before), systemOf(after)];
  const pairs = commonRows(before.run, after.run);
  const wanted = ({ way }: Question) => options.ways?.includes(way) ?? true;
  const asked = questionsOf({ categories: categoriesOfEither(before.run, after.run), rows: pairs.map(([row]) => row) })
    .filter(wanted)
    .map((question) => ({
      question,
      ...paired(question, [before.run, after.run], [systemBefore, systemAfter], pairs),
    }));
  const answered = asked.flatMap(({ question, pairing }) => (pairing ? [{ question, pairing }] : []));
  const refused = asked.flatMap(({ question, why }) => (why === undefined ? [] : [{ ...question, why }]));
  if (answered.length === 0) {
    const why = refused.map((one) => `${questionName(one)}: ${one.why}`).join('; ') || 'neither policy has categories';
    throw new EvaluationError('metric-undefined', `Nothing can be compared: ${why}.`);
  }
  const { figures, tests } = comparePaired(
    answered.map(({ pairing }) => pairing),
    options,
  );
  const side = ({ run }: Side, { name, threshold, thresholds }: System): ComparedSide => ({
    system: name,
    threshold: thresholds ? null : threshold,
    identity: run.identity,
  });
  return {
    before: side(before, systemBefore),
    after: side(after, systemAfter),
    differing: identityDifferences({ ...before, system: systemBefore }, { ...after, system: systemAfter }),
    common: pairs.length,
    onlyBefore: before.run.rows.length - pairs.length,
    onlyAfter: after.run.rows.length - pairs.length,
    differences: answered.flatMap(({ question, pairing }, i) => {
      const positives = pairing.pairs.filter(({ label }) => label === 1).length;
      return figures[i]!.map((figure) => ({ ...question, samples: pairing.pairs.length, positives, ...figure }));
    }),
    refused,
    tests,
    settings: settingsOf(options),
  };
}

function systemOf({ run, system: name }: Side): System {
  if (name === undefined) return decidingSystem(run);
  const systems = systemsOf(run);
  const found = systems.find((system) => system.name === name);
  if (found) return found;
  const names = systems.map((system) => JSON.stringify(system.name)).join(', ');
  throw new EvaluationError(
    'system-unknown',
    `The run on ${run.data.name} has no system ${JSON.stringify(name)}; it has ${names}.`,
  );
}

type RowPair = readonly [before: Row, after: Row];

/** @throws EvaluationError `run-invalid` where the same id is not the same sample */
function commonRows(before: Run, after: Run): RowPair[] {
  const later = new Map(after.rows.map((row) => [row.id, row]));
  const pairs = before.rows.flatMap((row): RowPair[] => {
    const other = later.get(row.id);
    return other ? [[row, other]] : [];
  });
  if (pairs.length === 0) {
    throw new EvaluationError(
      'run-invalid',
      'The two runs have no sample in common: samples are matched by their ids.',
    );
  }
  refuseWhere(pairs, ([a, b]) => a.content !== b.content, 'have other texts under the same ids');
  refuseWhere(pairs, ([a, b]) => a.unsafe !== b.unsafe, 'label samples differently');
  return pairs;
}

function refuseWhere(pairs: readonly RowPair[], differ: (pair: RowPair) => boolean, what: string): void {
  const differing = pairs.filter(differ);
  if (differing.length === 0) return;
  const [{ id }] = differing[0]!;
  throw new EvaluationError(
    'run-invalid',
    `The two runs ${what}: ${differing.length} of the ${pairs.length} in common, ${JSON.stringify(id)} first; run one of ` +
      "them again on the other's data.",
  );
}

function categoriesOfEither(before: Run, after: Run): Run['categories'] {
  const own = new Set(before.categories.map(({ code }) => code));
  return [...before.categories, ...after.categories.filter(({ code }) => !own.has(code))];
}

/** Both systems' scores for a question, or why it is not the same question of both. */
function paired(
  question: Question,
  runs: readonly [Run, Run],
  systems: readonly [System, System],
  rows: readonly RowPair[],
): { readonly pairing?: Pairing; readonly why?: string } {
  const why = question.code === undefined ? undefined : categoryMismatch(question.code, runs, rows);
  if (why !== undefined) return { why };
  const [before, after] = systems.map((system, side) =>
    answersTo(
      question,
      system,
      rows.map((pair) => pair[side]!),
    ),
  );
  const silent = systems.find((_, side) => [before!, after!][side]!.length === 0);
  if (silent) return { why: `${JSON.stringify(silent.name)} has no scores of it` };
  const [oneOwn, otherOwn] = systems.map(({ categoryScore }) => categoryScore !== undefined);
  if (question.code !== undefined && oneOwn !== otherOwn) {
    return { why: 'one side scores the category by itself, the other has one score for all categories' };
  }
  const answers = new Map(after!.map((answer) => [answer.id, answer]));
  const pairs = before!.flatMap(({ id, label, score, threshold }): Pair[] => {
    const other = answers.get(id);
    if (!other) return [];
    return [
      { label, before: score, after: other.score, flagged: [score >= threshold, other.score >= other.threshold] },
    ];
  });
  if (!hasBoth(pairs)) return { why: 'the samples that both answered are not of both labels' };
  return { pairing: { pairs, metrics: comparedMetrics } };
}

function categoryMismatch(code: string, runs: readonly [Run, Run], rows: readonly RowPair[]): string | undefined {
  const [before, after] = runs.map(({ categories }) => categories.find((category) => category.code === code)?.name);
  if (before === undefined || after === undefined) {
    return `only the policy of the ${before === undefined ? 'second' : 'first'} has it`;
  }
  if (before !== after) return `it is ${JSON.stringify(before)} in the one and ${JSON.stringify(after)} in the other`;
  const differing = rows.find(([a, b]) => a.categories[code] !== b.categories[code]);
  return differing && `the two runs label the sample ${JSON.stringify(differing[0].id)} differently in it`;
}
