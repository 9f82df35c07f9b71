import { createHash } from 'node:crypto';
import { appendFile, mkdir, readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod';
import { EvaluationError, OptionError } from '../../errors.ts';
import { canonicalJson } from '../../identity.ts';
import type { Sample } from '../data.ts';
import { type Identity, identity, type Run, type Scores, scores } from '../run.ts';
import type { ScoreStore } from '../score-samples.ts';

const hashOf = (value: unknown): string => createHash('sha256').update(canonicalJson(value)).digest('hex');

/** A short name for what scores depend on, for the names of files. */
export const keyOf = (identity: Identity): string => hashOf(identity).slice(0, 12);

/** A short name for what a run is beside its scores: labels, thresholds, and what other systems said. */
export const labelsKeyOf = ({ data, threshold, calibratedThreshold, calibratedThresholds, rows }: Run): string => {
  const others = rows.map((row) => [row.id, row.others ?? {}]);
  return hashOf({ data, threshold, calibratedThreshold, calibratedThresholds, others }).slice(0, 8);
};

/** What a sample's scores depend on beside the guard. */
export const contentHash = ({ messages, role }: Sample): string => hashOf([messages, role ?? null]).slice(0, 16);

/** The same of the messages alone, whoever is judged: what says that two runs read one text. */
export const textHash = ({ messages }: Pick<Sample, 'messages'>): string => hashOf(messages).slice(0, 16);

const placeOf = (id: string, content: string): string => JSON.stringify([id, content]);

const head = { format: 'llama-guard-webgpu scores', version: 1 } as const;
const header = z.object({ format: z.literal(head.format), version: z.literal(head.version), identity });
const line = scores.extend({ id: z.string(), content: z.string() });

/**
 * Scores in a file of JSON Lines that is only ever appended to: a line that says what they depend on, then one a sample,
 * by its id and a hash of its text. A last line that a kill cut off is dropped when the file is opened again.
 */
export class ScoreFile implements ScoreStore {
  readonly path: string;
  readonly #scores: Map<string, Scores>;

  private constructor(path: string, scores: Map<string, Scores>) {
    this.path = path;
    this.#scores = scores;
  }

  /**
   * Opens the file of an identity in a folder, or begins it; scores under another identity are in a file of their own.
   * @throws EvaluationError `run-invalid` for a file that something else wrote, naming the line; OptionError where the
   *   folder cannot be written
   */
  static async open(folder: string, identity: Identity): Promise<ScoreFile> {
    const path = join(folder, `${keyOf(identity)}.scores.jsonl`);
    await writable(folder, mkdir(folder, { recursive: true }));
    const bytes = await readFile(path).catch((error) => {
      if (error.code !== 'ENOENT') throw error;
      return Buffer.alloc(0);
    });
    const whole = bytes.lastIndexOf(0x0a) + 1;
    if (whole < bytes.length) await truncate(path, whole);
    const [first, ...rest] = bytes.toString('utf8', 0, whole).split('\n').slice(0, -1);
    if (first === undefined) {
      await writable(folder, appendFile(path, `${JSON.stringify({ ...head, identity })}\n`));
      return new ScoreFile(path, new Map());
    }
    const { identity: written } = parse(header, first, path, 1);
    if (hashOf(written) !== hashOf(identity)) {
      throw new EvaluationError('run-invalid', `${path} holds the scores of another guard; move it away.`);
    }
    const kept = rest.map((text, i) => {
      const { id, content, ...scores } = parse(line, text, path, i + 2);
      return [placeOf(id, content), scores] as const;
    });
    return new ScoreFile(path, new Map(kept));
  }

  get(sample: Sample): Scores | undefined {
    return this.#scores.get(placeOf(sample.id, contentHash(sample)));
  }

  has(sample: Sample): boolean {
    return this.get(sample) !== undefined;
  }

  async add(sample: Sample, scores: Scores): Promise<void> {
    const [id, content] = [sample.id, contentHash(sample)];
    await appendFile(this.path, `${JSON.stringify({ id, content, ...scores })}\n`);
    this.#scores.set(placeOf(id, content), scores);
  }
}

const writable = (folder: string, writing: Promise<unknown>) =>
  writing.catch((cause) => {
    const message = `Scores cannot be kept in ${folder}: ${cause.message}; name another folder (--out).`;
    throw new OptionError('option-invalid', message, { cause });
  });

function parse<T>(schema: z.ZodType<T>, text: string, path: string, number: number): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new EvaluationError('run-invalid', `${path}, line ${number}: not a line of kept scores; delete it.`, {
      cause,
    });
  }
}
