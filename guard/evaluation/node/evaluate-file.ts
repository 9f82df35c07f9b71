import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { EvaluationError } from '../../errors.ts';
import { adaptedName, type Guard } from '../../guard.ts';
import { hashesOf } from '../../identity.ts';
import type { CheckManyOptions } from '../../options.ts';
import { type ReadOptions, readSamples } from '../data.ts';
import { type Identity, makeRun, type Row, type Run } from '../run.ts';
import { scoreSamples } from '../score-samples.ts';
import { readLines } from './lines.ts';
import { contentHash, ScoreFile, textHash } from './score-file.ts';

export interface EvaluateOptions extends Omit<ReadOptions, 'policy'>, Omit<CheckManyOptions, 'policy'> {
  /** Where scores are kept as they come, to go on after a kill. */
  readonly folder: string;
  /** By id, what other systems said, by their names. */
  readonly others?: ReadonlyMap<string, Readonly<Record<string, number>>>;
  /** Takes a set of which no sample is known to be unsafe, too. */
  readonly unlabelled?: boolean;
  /** Once the data is known to be sound: how many samples it has, and how many were scored before. */
  readonly onStart?: (total: number, scored: number) => void;
  readonly onScored?: () => void;
}

/**
 * Scores a labelled set. The file is read as a stream, three times: first all of it is checked, so that bad data is found
 * before the first sample is judged; then what is not scored yet is; then labels and scores are put together.
 *
 * @throws EvaluationError for bad data, with its line; `no-positives` where no sample is labelled unsafe and
 *   `unlabelled` sets are not asked for
 */
export async function evaluateFile(guard: Guard, file: string, options: EvaluateOptions): Promise<Run> {
  const {
    folder,
    others,
    onStart,
    onScored,
    format = 'generic',
    map,
    assumeSafe = false,
    unlabelled = false,
    ...checks
  } = options;
  const { policy } = guard;
  const reading: ReadOptions = {
    policy,
    format,
    assumeSafe,
    ...(map ? { map } : {}),
    ...(checks.role ? { role: checks.role } : {}),
  };
  const samples = () => readSamples(readLines(file), reading);
  const identity = await identityOf(guard, checks);
  const store = await ScoreFile.open(folder, identity);

  let [total, scored, unsafe, told] = [0, 0, 0, 0];
  for await (const sample of samples()) {
    total++;
    if (store.has(sample)) scored++;
    if (sample.unsafe === 1) unsafe++;
    if (others?.has(sample.id)) told++;
  }
  if (unsafe === 0 && !unlabelled) {
    throw new EvaluationError(
      'no-positives',
      `${file}: none of its ${total} samples is labelled unsafe, so that nothing can be told of what is found.`,
    );
  }
  if (others && others.size > 0 && told === 0) {
    const [id] = others.keys();
    throw new EvaluationError(
      'score-invalid',
      `${file}: none of its samples has an id that other scores are of, such as ${JSON.stringify(id)}.`,
    );
  }
  onStart?.(total, scored);
  const failures = await scoreSamples(guard, samples(), store, { ...checks, ...(onScored ? { onScored } : {}) });

  const rows: Row[] = [];
  const hash = createHash('sha256');
  for await (const sample of samples()) {
    const { id, line, unsafe, categories } = sample;
    const labels = { id, unsafe, categories: Object.fromEntries(categories) };
    hash.update(JSON.stringify([labels, contentHash(sample)]));
    const scores = store.get(sample);
    const told = others?.get(id);
    if (scores) rows.push({ ...labels, line, content: textHash(sample), ...scores, ...(told ? { others: told } : {}) });
  }
  const { threshold = 0.5, concurrency = 64 } = checks;
  return makeRun({
    identity,
    data: { name: basename(file), format, assumeSafe, hash: hash.digest('hex') },
    categories: policy.categories.map(({ code, name }) => ({ code, name })),
    threshold,
    calibratedThreshold: checks.threshold ?? calibratedThreshold(guard, rows) ?? threshold,
    concurrency,
    rows,
    failures,
  });
}

/** The threshold that the calibration was given by its data, where the roles of the rows have one in common. */
function calibratedThreshold({ calibration }: Guard, rows: readonly Row[]): number | undefined {
  const roles = [...new Set(rows.map(({ role }) => role))];
  const [first, ...others] = roles.map((role) => calibration?.roles[role]?.overall.threshold?.value);
  return others.every((other) => other === first) ? first : undefined;
}

async function identityOf(guard: Guard, checks: CheckManyOptions): Promise<Identity> {
  const { llama, decision, model } = guard;
  // Neither threshold nor company changes a score; the adapter is in the hash of the model.
  const {
    threshold: _threshold,
    concurrency: _concurrency,
    signal: _signal,
    policy: _policy,
    adapter,
    ...options
  } = checks;
  return {
    model: adaptedName(model, adapter),
    device: decision.device.kind,
    dtype: llama.dtype,
    hashes: await hashesOf(guard, adapter),
    options: { ...options, promptTokens: Math.min(llama.contextLength, llama.cacheTokens) },
  };
}
