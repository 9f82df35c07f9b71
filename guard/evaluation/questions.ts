import { type Role, roles } from '../messages.ts';
import type { Label } from './formats/label.ts';
import type { Row, Run } from './run.ts';

/**
 * The three ways of Llama Guard (arXiv 2312.06674) to evaluate against another taxonomy.
 *
 * - `overall`: unsafe samples against safe ones, by the score of the whole policy.
 * - `1-vs-all`: what violates one category against all that does not, by the score of that category.
 * - `1-vs-benign`: what violates one category against the safe samples; what violates only others is left out.
 */
export type Way = (typeof ways)[number];
export const ways = ['overall', '1-vs-all', '1-vs-benign'] as const;

/** What a set asks of a system; `code` is absent of `overall` alone, which may be about the samples of one role. */
export interface Question {
  readonly way: Way;
  readonly code?: string;
  readonly role?: Role;
}

/** What a system is called where it answers for the samples of one role. */
export const ofRole = (name: string, role: Role | undefined): string =>
  role === undefined ? name : `${name} (${role})`;

/** What tables and messages call a question. */
export const questionName = ({ way, code, role }: Question): string =>
  ofRole(code === undefined ? way : `${way}, ${code}`, role);

/** Something that scores samples, under the name that tables call it by. */
export interface System {
  readonly name: string;
  /** From which score a sample counts as flagged. */
  readonly threshold: number;
  /** The same of roles that have one of their own. */
  readonly thresholds?: Readonly<Partial<Record<Role, number | undefined>>> | undefined;
  /** Higher is less safe; undefined where it did not say. */
  score(row: Row): number | null | undefined;
  /** The same of one category; absent where it does not tell them apart. */
  categoryScore?(row: Row, code: string): number | undefined;
}

/** A row whose label and score are both known. */
export interface Answer {
  readonly id: string;
  readonly score: number;
  readonly label: Label;
  /** From which score the system flags it. */
  readonly threshold: number;
}

/** What tables call the guard whose run it is. */
export const ownName = 'guard';
export const wholeVocabularyName = `${ownName}, unsafeProbability`;
export const calibratedName = `${ownName}, calibrated`;

/** `overall`, the same by role where there are two, then both ways of every category. */
export function questionsOf({ categories, rows }: Pick<Run, 'categories' | 'rows'>): Question[] {
  const each = (way: Way) => categories.map(({ code }) => ({ way, code }));
  const judged = roles.filter((role) => rows.some((row) => row.role === role));
  const byRole = judged.length > 1 ? judged.map((role) => ({ way: 'overall', role }) as const) : [];
  return [{ way: 'overall' }, ...byRole, ...each('1-vs-all'), ...each('1-vs-benign')];
}

/**
 * The guard, its probability over the whole vocabulary, its calibrated score where there is one, and other systems. Of
 * categories the guard speaks by one score alone.
 */
export function systemsOf(run: Run): [guard: System, ...System[]] {
  const { rows, threshold } = run;
  const guard: System = { name: ownName, threshold, score: (row) => row.score };
  const byCategory = rows.some(({ categoryScores }) => categoryScores !== undefined);
  const calibrated = rows.some((row) => row.calibrated !== null);
  const others = [...new Set(rows.flatMap(({ others = {} }) => Object.keys(others)))];
  return [
    byCategory ? { ...guard, categoryScore: (row, code) => row.categoryScores?.[code] } : guard,
    { ...guard, name: wholeVocabularyName, score: (row) => row.unsafeProbability, categoryScore: () => undefined },
    ...(calibrated ? [calibratedSystem(run)] : []),
    ...others.map((name): System => ({ name, threshold, score: (row) => row.others?.[name] })),
  ];
}

/** The system whose score decides what is flagged: calibrated where there is a calibration. */
export function decidingSystem(run: Run): System {
  const systems = systemsOf(run);
  return systems.find(({ name }) => name === calibratedName) ?? systems[0];
}

const calibratedSystem = ({ calibratedThreshold, calibratedThresholds }: Run): System => ({
  name: calibratedName,
  threshold: calibratedThreshold,
  thresholds: calibratedThresholds,
  score: (row) => row.calibrated,
  categoryScore: () => undefined,
});

/**
 * The rows that a question is about, with the label that it gives them and the system's score. A system that does not tell
 * categories apart answers `1-vs-benign` by its only score, and `1-vs-all` not at all.
 */
export function answersTo(question: Question, system: System, rows: readonly Row[]): Answer[] {
  const scoreOf = scorer(question, system);
  return rows.flatMap((row) => {
    const label = labelIn(question, row);
    const score = scoreOf?.(row) ?? undefined;
    const threshold = system.thresholds?.[row.role] ?? system.threshold;
    return label === null || score === undefined ? [] : [{ id: row.id, score, label, threshold }];
  });
}

function scorer({ way, code }: Question, system: System): System['score'] | undefined {
  if (code === undefined) return system.score;
  const { categoryScore } = system;
  if (categoryScore) return (row) => categoryScore(row, code);
  return way === '1-vs-benign' ? system.score : undefined;
}

function labelIn({ way, code, role }: Question, { role: judged, unsafe, categories }: Row): Label | null {
  if (role !== undefined && role !== judged) return null;
  if (code === undefined) return unsafe;
  const violated = categories[code] ?? null;
  if (way === '1-vs-all' || violated === 1) return violated;
  return unsafe === 0 ? 0 : null;
}

/** Whether there are samples of both kinds, without which ranking means nothing. */
export const hasBoth = (answers: readonly Pick<Answer, 'label'>[]): boolean =>
  answers.some(({ label }) => label === 1) && answers.some(({ label }) => label === 0);
