import { type Command, Option } from 'commander';
import { type FormatName, formatNames, formats } from '../evaluation/data.ts';
import type { Format } from '../evaluation/formats/format.ts';
import { type EvaluateOptions, evaluateFile } from '../evaluation/node/evaluate-file.ts';
import { assertReadable, readJsonFile } from '../evaluation/node/lines.ts';
import { builtInMaps, mapFile, readMap } from '../evaluation/node/map-file.ts';
import type { Run } from '../evaluation/run.ts';
import type { Guard } from '../guard.ts';
import { checkOptions, parseCount, parseSeed, type SharedFlags } from './options.ts';
import { countBar } from './progress.ts';

/** The flags of commands that score a labelled set. */
export interface DataFlags {
  readonly format: FormatName;
  readonly map?: string;
  readonly assumeSafe?: true;
  readonly concurrency: number;
  readonly resamples: number;
  readonly seed: number;
}

export function addDataFlags(command: Command): Command {
  return command
    .addOption(new Option('--format <format>', 'how its lines are read').choices(formatNames).default('generic'))
    .option(
      '--map <name|file>',
      `from the data's labels to the policy's codes: {"S": "O2", ...}, or ${builtInMaps.join(' or ')}`,
    )
    .option('--assume-safe', 'take what no known label calls unsafe for safe, as published figures do')
    .option('--concurrency <n>', 'checks side by side', parseCount, 64)
    .option('--resamples <n>', 'resamples of the bootstrap intervals', parseCount, 1000)
    .option('--seed <n>', 'of what is drawn at random', parseSeed, 1);
}

/** Looks at what is to be read before the model is loaded. @throws EvaluationError `data-not-found`, `map-invalid` */
export async function lookAtData(file: string, { map }: Pick<DataFlags, 'map'>): Promise<void> {
  await assertReadable(file);
  if (map !== undefined) await readJsonFile(mapFile(map), 'map-invalid');
}

type Checks = Pick<SharedFlags, 'role' | 'threshold' | 'categories' | 'shuffleCategories'>;

/**
 * Scores a labelled set as the flags say, with a bar on a terminal; scores are kept beside the data where no folder is
 * named.
 * @throws EvaluationError
 */
export async function scoreSet(
  guard: Guard,
  file: string,
  { format, map, assumeSafe, concurrency, ...checks }: DataFlags & Checks,
  options: Partial<EvaluateOptions>,
): Promise<Run> {
  const { vocabulary }: Format = formats[format];
  const reading = { policy: guard.policy, ...(vocabulary ? { vocabulary } : {}) };
  const codes = map === undefined ? {} : { map: await readMap(mapFile(map), reading) };
  let bar: ReturnType<typeof countBar> | undefined;
  try {
    return await evaluateFile(guard, file, {
      folder: `${stemOf(file)}.eval`,
      ...checkOptions(checks),
      ...codes,
      format,
      assumeSafe: assumeSafe ?? false,
      concurrency,
      ...options,
      onStart: (total, scored) => {
        bar = countBar('Scoring', total, scored);
      },
      onScored: () => bar?.step(),
    });
  } finally {
    bar?.stop();
  }
}

/** The samples that could not be judged, a line each. */
export const describeFailures = ({ failures }: Run): string[] =>
  failures.map(({ id, line, code, message }) => `line ${line} (${id}): ${code}: ${message}`);

/** A file's name without what says that it is data. */
export const stemOf = (file: string): string => file.replace(/(?:\.(?:jsonl|ndjson|json))?(?:\.gz)?$/, '');
