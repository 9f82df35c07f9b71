import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { split } from '../../calibration/samples.ts';
import { EvaluationError } from '../../errors.ts';
import { adaptedName, type Guard } from '../../guard.ts';
import { hashesOf } from '../../identity.ts';
import { roles } from '../../messages.ts';
import type { CheckManyOptions } from '../../options.ts';
import { scoringVersion } from '../../scoring-version.ts';
import { type ReadOptions, readSamples } from '../data.ts';
import { type Identity, makeRun, type Row, type Run } from '../run.ts';
import { scoreSamples } from '../score-samples.ts';
import { readLines } from './lines.ts';
import { contentHash, ScoreFile, textHash } from './score-file.ts';

const defaultThreshold = 0.5;

export interface EvaluateOptions extends Omit<ReadOptions, 'policy'>, Omit<CheckManyOptions, 'policy'> {
  /** Where scores are kept as they come, to go on after a kill. */
  readonly folder: string;
  /** By id, what other systems said, by their names. */
  readonly others?: ReadonlyMap<string, Readonly<Record<string, number>>>;
  /** Takes a set without any label, too. */
  readonly unlabelled?: boolean;
  /** Once the data is known to be sound: how many samples it has, and how many were scored before. */
  readonly onStart?: (total: number, scored: number) => void;
  readonly onScored?: () => void;
}

/**
 * Scores a labelled set. The file is read as a stream, three times: first all of it is checked, so that bad data is found
 * before the first sample is judged; then what is not scored yet is; then labels and scores are put together.
 *
 * @throws EvaluationError for bad data, with its line; `no-labels` where none of the samples has one and `unlabelled`
 *   sets are not asked for
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

  let [total, scored, labelled, told] = [0, 0, 0, 0];
  for await (const sample of samples()) {
    total++;
    if (store.has(sample)) scored++;
    if (sample.unsafe !== null || sample.categories.size > 0) labelled++;
    if (others?.has(sample.id)) told++;
  }
  if (labelled === 0 && !unlabelled) {
    throw new EvaluationError(
      'no-labels',
      `${file}: none of its ${total} samples is known to be safe or unsafe, so that nothing can be told of what is ` +
        'found; name the format of its labels, or what they are called (--format, --map).',
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
  const { threshold = defaultThreshold, concurrency = 64 } = checks;
  const data = { name: basename(file), format, assumeSafe, hash: hash.digest('hex') };
  return makeRun({
    identity,
    data,
    categories: policy.categories.map(({ code, name }) => ({ code, name })),
    threshold,
    ...calibratedThresholds(guard, rows, checks.threshold),
    ...fittedOn(guard, data.hash, rows),
    concurrency,
    rows,
    failures,
  });
}

/** The thresholds that the calibration was given by its data, unless one was asked for; as a run has them. */
function calibratedThresholds({ calibration }: Guard, rows: readonly Row[], asked: number | undefined) {
  const judged = roles.filter((role) => rows.some((row) => row.role === role));
  const byRole = judged.map((role) => {
    const own = calibration?.roles[role]?.overall.threshold?.value;
    return [role, asked ?? own ?? defaultThreshold] as const;
  });
  const [common = defaultThreshold, ...others] = new Set(byRole.map(([, threshold]) => threshold));
  if (others.length === 0) return { calibratedThreshold: common };
  return { calibratedThreshold: defaultThreshold, calibratedThresholds: Object.fromEntries(byRole) };
}

/** How many of the samples the calibration was fitted on: it says how they were drawn. */
function fittedOn({ calibration }: Guard, dataHash: string, rows: readonly Row[]): Pick<Run, 'fittedOn'> {
  const { fitted } = calibration ?? {};
  return fitted?.data === dataHash ? { fittedOn: split(rows, fitted.share, fitted.seed).fit.length } : {};
}

async function identityOf(guard: Guard, checks: CheckManyOptions): Promise<Identity> {
  const { llama, decision, model, format, prefer } = guard;
  const { kind, name } = decision.device;
  // Neither threshold nor company changes a score; the adapter is in the hash of the model, detail in the policy's.
  const {
    threshold: _threshold,
    concurrency: _concurrency,
    signal: _signal,
    policy: _policy,
    adapter,
    detail,
    ...options
  } = checks;
  return {
    model: adaptedName(model, adapter),
    device: kind,
    dtype: llama.dtype,
    scoring: scoringVersion,
    format: format.name,
    ...(kind === 'webgpu' ? { adapter: name } : {}),
    ...(prefer ? { prefer } : {}),
    hashes: await hashesOf(guard, adapter, detail),
    options: { ...options, promptTokens: Math.min(llama.contextLength, llama.cacheTokens) },
  };
}
