import * as z from 'zod';
import { weightDTypes } from '../../kernels/contract.ts';
import { EvaluationError } from '../errors.ts';
import { roles } from '../messages.ts';
import type { Assessment } from '../score.ts';
import { formatNames } from './data.ts';

/** Raised whenever a field changes its meaning; files of another version are refused, not guessed at. */
export const formatVersion = 2;
const formatName = 'llama-guard-webgpu evaluation';

const count = z.number().int().nonnegative();
const label = z.union([z.literal(0), z.literal(1)]);
const probability = z.number().min(0).max(1);
const hash = z.string();

/** What a guard says of a sample, as it is kept. */
export const scores = z.object({
  /** Whose messages were judged. */
  role: z.enum(roles),
  score: probability,
  unsafeProbability: probability,
  mass: z.number(),
  /** The probability of what was put into the model's mouth; absent where nothing was. */
  forced: probability.optional(),
  /** The probability of each verdict, where there are more than two. */
  labels: z.record(z.string(), probability).optional(),
  /** The score after calibration; null where there is none. */
  calibrated: probability.nullable(),
  /** By code, where category scores were asked for. */
  categoryScores: z.record(z.string(), probability).optional(),
  /** How far the score depends on the order of the categories, where several were read: it is their mean. */
  orders: z.object({ count, min: probability, max: probability, deviation: z.number().nonnegative() }).optional(),
  windows: count,
  /** From the call to the answer, waiting for the checks beside it included. */
  milliseconds: z.number().nonnegative(),
});

const row = scores.extend({
  id: z.string(),
  line: count,
  /** A hash of the messages: what tells that the same id is the same text in two runs. */
  content: hash,
  unsafe: label.nullable(),
  /** By code; absent where it is not known. */
  categories: z.record(z.string(), label),
  /** Scores of other systems, by their names. */
  others: z.record(z.string(), z.number()).optional(),
});

/** What scores depend on: they are kept, and compared, under it. */
export const identity = z.object({
  model: z.string(),
  device: z.enum(['webgpu', 'cpu']),
  dtype: z.enum(weightDTypes),
  /** See `scoringVersion`. */
  scoring: count,
  /** How the model was asked, by the name of its prompt format. */
  format: z.string(),
  /** The WebGPU adapter; absent of the processor. */
  adapter: z.string().optional(),
  /** Kernels that were asked for, by operation; absent where the engine chose. */
  prefer: z.record(z.string(), z.string()).optional(),
  /** SHA-256 of what was used; of the calibration null where there was none. */
  hashes: z.object({
    model: hash,
    policy: hash,
    instruction: z.object({ user: hash, agent: hash }),
    calibration: hash.nullable(),
  }),
  /** Options of the checks that change scores, such as the category mode. */
  options: z.record(z.string(), z.json()),
});

const run = z.object({
  format: z.literal(formatName),
  version: z.literal(formatVersion),
  identity,
  data: z.object({
    name: z.string(),
    format: z.enum(formatNames),
    /** Whether samples of unknown label were taken for safe. */
    assumeSafe: z.boolean(),
    /** SHA-256 of ids, texts and labels. */
    hash,
  }),
  categories: z.array(z.object({ code: z.string(), name: z.string() })),
  /** From which score a sample counts as flagged. */
  threshold: probability,
  /** The same of the calibrated score: what the calibration was given by its data, unless one was asked for. */
  calibratedThreshold: probability,
  /** By role, where the calibration was given one for each that differ; they go before `calibratedThreshold`. */
  calibratedThresholds: z.object({ user: probability.optional(), agent: probability.optional() }).optional(),
  /** Samples that the calibration was fitted on; absent where it does not say, or was fitted on other data. */
  fittedOn: count.optional(),
  /** Checks under way side by side: what their milliseconds include. */
  concurrency: count,
  rows: z.array(row),
  /** Samples that could not be judged. */
  failures: z.array(z.object({ id: z.string(), line: count, code: z.string(), message: z.string() })),
});

export type Scores = z.infer<typeof scores>;
export type Row = z.infer<typeof row>;
export type Identity = z.infer<typeof identity>;
/** A labelled set and what a guard, and perhaps others, said of it; without the texts. */
export type Run = z.infer<typeof run>;

/** What is kept of an assessment. */
export function scoresOf(assessment: Assessment): Scores {
  const { role, score, unsafeProbability, mass, forced, labels, calibrated } = assessment;
  const { categories, orders, windows, milliseconds } = assessment;
  // Exponentials and sums of rounded logarithms may exceed 1 in their last place.
  const bounded = (probability: number) => Math.min(probability, 1);
  const boundedEach = (named: readonly (readonly [string, number])[]) =>
    Object.fromEntries(named.map(([name, value]) => [name, bounded(value)]));
  return {
    role,
    score,
    unsafeProbability: bounded(unsafeProbability),
    mass,
    ...(forced === undefined ? {} : { forced: bounded(forced) }),
    ...(labels ? { labels: boundedEach(Object.entries(labels)) } : {}),
    calibrated,
    ...(categories.length > 0
      ? { categoryScores: boundedEach(categories.map(({ code, score }) => [code, score])) }
      : {}),
    ...(orders ? { orders: { count: orders.count, ...orders.score } } : {}),
    windows,
    milliseconds: milliseconds.total,
  };
}

export const makeRun = (parts: Omit<Run, 'format' | 'version'>): Run => ({
  format: formatName,
  version: formatVersion,
  ...parts,
});

/**
 * Checks a run that came as JSON.
 * @throws EvaluationError `run-invalid`, naming the first field that is wrong
 */
export function parseRun(json: unknown, source: string): Run {
  const result = run.safeParse(json);
  if (result.success) return result.data;
  const { format, version } = (json ?? {}) as { readonly format?: unknown; readonly version?: unknown };
  if (format === formatName && version !== formatVersion) {
    throw new EvaluationError(
      'run-invalid',
      `${source} is a run of version ${version}, and this program reads version ${formatVersion}: run eval again with the ` +
        'same data and --out; what is kept of the scores is not scored again.',
    );
  }
  const { path, message } = result.error.issues[0]!;
  throw new EvaluationError(
    'run-invalid',
    `${source} is not a run of this version of llama-guard eval: ${path.join('.') || 'the file'}: ${message}`,
  );
}
