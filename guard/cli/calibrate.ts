import { Command, InvalidArgumentError, Option } from 'commander';
import { type FitSubject, fitCalibration, type LeftOut } from '../calibration/fit.ts';
import { measureContentFree } from '../calibration/measure.ts';
import { type MethodName, methodNames, methods } from '../calibration/methods.ts';
import { fitNotes } from '../calibration/notes.ts';
import { reportCalibration } from '../calibration/report.ts';
import { parseRule } from '../calibration/rule.ts';
import { split } from '../calibration/samples.ts';
import { calibrationTables } from '../calibration/tables.ts';
import { EvaluationError } from '../errors.ts';
import { settingsOf } from '../evaluation/bootstrap.ts';
import type { ThresholdRule } from '../evaluation/metrics.ts';
import { readRun } from '../evaluation/node/run-file.ts';
import type { Run } from '../evaluation/run.ts';
import { describeSettings } from '../evaluation/tables.ts';
import type { Guard } from '../guard.ts';
import { calibrationHash, canonicalJson, hashesOf } from '../identity.ts';
import type { CategoryMode } from '../options.ts';
import { renderText } from '../report/text.ts';
import { addGuardFlags, exitCodes, loadFromFlags, type SharedFlags } from './options.ts';
import { assertWritable, writeOutput } from './output.ts';
import { addDataFlags, type DataFlags, describeFailures, lookAtData, scoreSet } from './score-set.ts';

interface CalibrateFlags extends Omit<SharedFlags, 'threshold' | 'calibration'>, DataFlags {
  readonly method: MethodName;
  readonly out: string;
  readonly threshold?: ThresholdRule;
  readonly fit: number;
}

export function calibrateCommand(): Command {
  return addDataFlags(addGuardFlags(new Command('calibrate')))
    .description('fit what turns scores into probabilities, and tell what it does to samples that it did not see')
    .argument('<data>', 'labelled JSON Lines, as for eval; or a .run.json that eval kept, which is not scored again')
    .addOption(new Option('--method <method>', 'how it is fitted').choices(methodNames).makeOptionMandatory())
    .requiredOption('--out <file>', 'where the calibration is written')
    .option('--threshold <rule>', 'choose thresholds on the data: fpr=0.01, recall=0.95 or f1', parseThresholdRule)
    .option('--fit <share>', 'share of the samples to fit on; the report is on the others', parseShare, 0.5)
    .addHelpText(
      'after',
      `
Either role, and every category with labels enough, is calibrated by itself. The file is of one model, dtype and policy,
and is refused with others. temperature, platt and isotonic learn from labels; contextual and batch need none.
Scores are kept as those of eval are, and taken from there if eval has them.`,
    )
    .action(calibrate);
}

async function calibrate(data: string, flags: CalibrateFlags): Promise<void> {
  const { method, threshold, out, fit: share, seed, resamples } = flags;
  await assertWritable(out, '--out');
  const { run, contentFree } = await scoresFor(data, flags);
  const { fit, rest } = split(run.rows, share, seed);
  const leftOut: LeftOut[] = [];
  const onLeftOut = (category: LeftOut) => leftOut.push(category);
  const fitted = { data: run.data.hash, seed, share };
  const options = { method, threshold, contentFree, fitted, onLeftOut };
  const calibration = fitCalibration(fit, subjectOf(run), options);
  const notes = fitNotes(calibration, leftOut);
  const settings = settingsOf({ resamples, seed });
  const parts = reportCalibration(calibration, rest, settings);
  await writeOutput(out, '--out', `${JSON.stringify(calibration, undefined, 2)}\n`);
  if (run.failures.length > 0) process.exitCode = exitCodes.badInput;
  if (flags.json) {
    const { identity, failures } = run;
    const hash = await calibrationHash(calibration);
    const told = {
      file: out,
      hash,
      identity,
      method,
      fitted: fit.length,
      reported: rest.length,
      seed,
      settings,
      parts,
      notes,
      failures,
    };
    process.stdout.write(`${JSON.stringify(told)}\n`);
    return;
  }
  const texts = [
    `Fitted on ${fit.length} samples, drawn by seed ${seed}; ${rest.length} others are reported on.`,
    describeSettings(settings),
    ...(parts.length === 0
      ? ['Too few samples to leave any to report on: give more, or a smaller share (--fit).']
      : []),
    ...notes,
    ...describeFailures(run),
    ...calibrationTables(calibration, parts).map(renderText),
  ];
  process.stdout.write(`${texts.join('\n')}\n\nWritten to ${out}\n`);
}

/** The scores to fit on: those that eval kept, or new ones. */
async function scoresFor(data: string, flags: CalibrateFlags) {
  await lookAtData(data, flags);
  const kept = data.endsWith('.json') ? await readRun(data) : undefined;
  if (kept) assertOneOrder(kept, data);
  const needsGuard = methods[flags.method].needs === 'contentFree';
  if (kept && !needsGuard) return { run: kept, contentFree: [] };
  await using guard = await loadFromFlags(flags);
  if (kept) await assertSameGuard(guard, kept, data);
  const { threshold: _rule, ...scoring } = flags;
  const unlabelled = methods[flags.method].needs !== 'labels';
  const run = kept ?? (await scoreSet(guard, data, scoring, { unlabelled }));
  const roles = [...new Set(run.rows.map(({ role }) => role))];
  return { run, contentFree: needsGuard ? await measureContentFree(guard, roles, categoryModeOf(run)) : [] };
}

/** @throws EvaluationError `run-invalid` where a run is not of this model, dtype and policy */
async function assertSameGuard(guard: Guard, { identity }: Run, file: string): Promise<void> {
  const { model, policy, instruction } = await hashesOf(guard);
  const { calibration: _calibration, ...scored } = identity.hashes;
  const own = { dtype: guard.llama.dtype, model, policy, instruction };
  if (canonicalJson(own) === canonicalJson({ dtype: identity.dtype, ...scored })) return;
  throw new EvaluationError(
    'run-invalid',
    `${file} was scored by another model, dtype or policy than the one to be measured: give those of the run.`,
  );
}

/** @throws EvaluationError `run-invalid` for means over orders of the categories: a calibrated guard reads but one */
function assertOneOrder({ identity }: Run, file: string): void {
  const { shuffleCategories = 1 } = identity.options;
  if (shuffleCategories === 1) return;
  throw new EvaluationError(
    'run-invalid',
    `${file} holds means over ${shuffleCategories} orders of the categories, and a calibration is of one: run eval ` +
      'again without --shuffle-categories.',
  );
}

function subjectOf(run: Run): FitSubject {
  const { model, dtype, hashes } = run.identity;
  const { policy, instruction } = hashes;
  return { model: { name: model, hash: hashes.model }, dtype, policy, instruction, categoryMode: categoryModeOf(run) };
}

const categoryModeOf = ({ identity }: Run): CategoryMode => (identity.options.categories ?? 'none') as CategoryMode;

function parseThresholdRule(text: string): ThresholdRule {
  try {
    return parseRule(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function parseShare(text: string): number {
  const value = Number(text);
  if (value > 0 && value < 1) return value;
  throw new InvalidArgumentError('It must lie between 0 and 1: some samples to fit on, and some to report on.');
}
