import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { deviceChoices } from '../../engine/device-choice.ts';
import { mostThreads } from '../../engine/wasm/open.ts';
import { weightDTypes } from '../../kernels/contract.ts';
import { LlamaGuardError } from '../../kernels/errors.ts';
import { parseJsonText } from '../../kernels/json.ts';
import { CalibrationError, ConversationError, EvaluationError, OptionError, PolicyError } from '../errors.ts';
import { promptFormats } from '../formats/index.ts';
import { roles } from '../messages.ts';
import { Guard } from '../node/guard.ts';
import { policyNamed, readCalibration } from '../node/load.ts';
import { type CategoryMode, type CheckOptions, categoryModes, type LoadOptions } from '../options.ts';
import { builtInPolicies } from '../policies/index.ts';
import { atDetail, type Detail, details, excludeCategories, type Policy, selectCategories } from '../policy.ts';
import { progressBar, tuningLine } from './progress.ts';

/** 0 done and safe, 1 done and unsafe (with `--fail`), 2 bad input, 3 model, device or standard output failure. */
export const exitCodes = { done: 0, unsafe: 1, badInput: 2, failure: 3 } as const;

export interface SharedFlags {
  readonly model?: string;
  /** A folder. */
  readonly adapter?: string;
  readonly promptFormat?: string;
  readonly policy?: string;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly detail: Detail;
  readonly shuffleCategories?: number;
  readonly calibration?: string;
  readonly role?: 'user' | 'agent';
  readonly device: NonNullable<LoadOptions['device']>;
  readonly dtype: NonNullable<LoadOptions['dtype']>;
  /** Bytes. */
  readonly cacheMemory?: number;
  readonly threads?: number;
  readonly threshold?: number;
  readonly categories: CategoryMode;
  readonly tune?: true;
  readonly json?: true;
}

/** The flags that every command understands. */
export function addSharedFlags(command: Command): Command {
  return addGuardFlags(command).option(
    '--threshold <x>',
    "score from which a conversation is flagged (default: the calibration's, else 0.5)",
    parseThreshold,
  );
}

/** Leaves only the flags that matter to a command in its help; it understands the others all the same. */
export function showFlags(command: Command, ...shown: readonly (keyof SharedFlags)[]): Command {
  for (const option of command.options) option.hideHelp(!shown.includes(option.attributeName() as keyof SharedFlags));
  return command;
}

/** Those of a guard and its checks, without a threshold. */
export function addGuardFlags(command: Command): Command {
  command
    .option('--model <dir>', 'model folder (default: the embedded demonstration model)')
    .option('--adapter <dir>', 'folder of a low-rank adapter (PEFT) to merge into the model')
    .addOption(promptFormatFlag())
    .option(
      '--policy <name|file>',
      `a policy file, or one of ${Object.keys(builtInPolicies).join(', ')} (default: the model folder's own, else default)`,
    );
  return addPartFlags(command)
    .addOption(new Option('--role <role>', 'whose messages are judged (default: who spoke last)').choices(roles))
    .addOption(new Option('--device <device>', 'where to compute').choices(deviceChoices).default('auto'))
    .addOption(new Option('--dtype <dtype>', 'how weights are held').choices(['auto', ...weightDTypes]).default('auto'))
    .option(
      '--cache-memory <size>',
      'memory for prompts side by side and earlier ones, as in 512MiB (default: room for two of the longest)',
      parseSize,
    )
    .option(
      '--threads <n>',
      'threads of the processor to compute on (default: the cores that may be used)',
      parseThreads,
    )
    .option('--tune', 'measure once which kernels are fastest for this model on this adapter, and keep it')
    .addOption(new Option('--categories <mode>', 'category scores').choices(categoryModes).default('joint'))
    .option('--json', 'one JSON object a line on standard output');
}

/** The flags that say how much of a policy is used. */
export const addPartFlags = (command: Command): Command =>
  command
    .option('--include <codes>', "only these of the policy's categories, in this order, as in O1,O3", parseCodes)
    .option('--exclude <codes>', "all of the policy's categories but these", parseCodes)
    .addOption(
      new Option('--detail <detail>', "how much the model is told of each category: few-shot is 'examples'")
        .choices(details)
        .default('examples'),
    );

const parseCodes = (text: string): string[] => text.split(',').map((code) => code.trim());

/** The flag of commands that ask a model, or show how it is asked. */
export const promptFormatFlag = (): Option =>
  new Option(
    '--prompt-format <name>',
    "how the model is asked and answers (default: by the model folder's chat template)",
  ).choices(promptFormats.map(({ name }) => name));

/** The flag of commands that may read a conversation under several orders of the categories. */
export const shuffleFlag = (): Option =>
  new Option(
    '--shuffle-categories <n>',
    'average over so many orders of the categories, and tell their spread',
  ).argParser(parseCount);

/** The part of a policy that the flags ask for. @throws PolicyError */
export function partOf(
  whole: Policy,
  { include, exclude, detail }: Pick<SharedFlags, 'include' | 'exclude' | 'detail'>,
): Policy {
  const included = include ? selectCategories(whole, include) : whole;
  return atDetail(exclude ? excludeCategories(included, exclude) : included, detail);
}

/** The policy that the flags make of another, or of the one that is named. @throws PolicyError */
export async function policyOf({
  policy,
  ...part
}: Pick<SharedFlags, 'policy' | 'include' | 'exclude' | 'detail'>): Promise<(own: Policy) => Policy> {
  const named = policy === undefined ? undefined : await policyNamed(policy);
  return (own) => partOf(named ?? own, part);
}

/** A positive whole number. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('It must be a positive whole number.');
}

/** What random numbers begin with: 32 bits. */
export function parseSeed(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isInteger(value) && value >= 0 && value < 2 ** 32) return value;
  throw new InvalidArgumentError('It must be a whole number from 0 to 4294967295.');
}

/** The flag of commands that may use a calibration. */
export const calibrationFlag = (): Option =>
  new Option('--calibration <file>', 'what turns scores into probabilities, as calibrate wrote it');

function parseThreads(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0 && value <= mostThreads) return value;
  throw new InvalidArgumentError(`It must be a whole number from 1 to ${mostThreads}.`);
}

function parseThreshold(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= 0 && value <= 1))
    throw new InvalidArgumentError('It must be a number from 0 to 1.');
  return value;
}

const units = { B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 } as const;

/** Bytes: `1048576`, `1024KiB` or `1 MiB`, in any case. */
export function parseSize(text: string): number {
  const [, number, unit] = text.trim().match(/^(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB)?$/i) ?? [];
  const [, factor] = Object.entries(units).find(([name]) => name.toLowerCase() === (unit ?? 'B').toLowerCase())!;
  const bytes = Math.floor(Number(number) * factor);
  if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
  throw new InvalidArgumentError('It must be a number of bytes, or of KiB, MiB or GiB, as in 512MiB.');
}

/** Loads the guard that the flags ask for, with a progress bar on a terminal. */
export async function loadFromFlags(flags: Omit<SharedFlags, 'threshold'>, signal?: AbortSignal): Promise<Guard> {
  const policy = await policyOf(flags);
  const calibration = flags.calibration === undefined ? {} : { calibration: await readCalibration(flags.calibration) };
  const bar = progressBar('Loading the model');
  try {
    const { device, dtype, adapter, promptFormat, cacheMemory, threads, tune } = flags;
    return await Guard.load(flags.model, {
      device,
      dtype,
      ...(adapter === undefined ? {} : { mergedAdapter: adapter }),
      ...(promptFormat === undefined ? {} : { promptFormat }),
      ...(cacheMemory === undefined ? {} : { cacheMemory }),
      ...(threads === undefined ? {} : { threads }),
      ...(tune ? { tuning: 'measure', onTuning: tuningLine } : {}),
      policy,
      ...calibration,
      ...(signal ? { signal } : {}),
      onProgress: bar.update,
    });
  } finally {
    bar.stop();
  }
}

export function checkOptions({
  role,
  threshold,
  categories,
  shuffleCategories,
}: Pick<SharedFlags, 'role' | 'threshold' | 'categories' | 'shuffleCategories'>): CheckOptions {
  return {
    categories,
    ...(role ? { role } : {}),
    ...(threshold === undefined ? {} : { threshold }),
    ...(shuffleCategories === undefined ? {} : { shuffleCategories }),
  };
}

/** Reads and parses a JSON file that a person named. @throws ConversationError `json-invalid` */
export async function readJson(file: string): Promise<unknown> {
  try {
    return parseJsonText(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new ConversationError('json-invalid', `${file} cannot be read as JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** What the process should answer to an error. */
export function exitCodeOf(error: unknown): number {
  const kinds = [CalibrationError, ConversationError, EvaluationError, OptionError, PolicyError];
  const input = kinds.some((kind) => error instanceof kind);
  return input ? exitCodes.badInput : exitCodes.failure;
}

/** Errors of this package speak for themselves; of others the stack is wanted. */
export const explain = (error: unknown): string =>
  error instanceof LlamaGuardError ? `${error.code}: ${error.message}` : String((error as Error).stack ?? error);
