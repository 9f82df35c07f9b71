import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Command, Option } from 'commander';
import { EvaluationError, OptionError } from '../errors.ts';
import { type CategoryMap, parseCategoryMap } from '../evaluation/category-map.ts';
import { type FormatName, formatNames, formats } from '../evaluation/data.ts';
import { type Evaluation, evaluate } from '../evaluation/figures.ts';
import { evaluateFile } from '../evaluation/node/evaluate-file.ts';
import { readJsonFile, readLines } from '../evaluation/node/lines.ts';
import { hashOf } from '../evaluation/node/score-file.ts';
import { readOtherScores } from '../evaluation/other-scores.ts';
import type { Run } from '../evaluation/run.ts';
import { describeRun, tablesOf } from '../evaluation/tables.ts';
import type { Policy } from '../policy.ts';
import { renderText } from '../report/text.ts';
import { compareCommand } from './eval-compare.ts';
import { addSharedFlags, checkOptions, exitCodes, loadFromFlags, parseCount, type SharedFlags } from './options.ts';
import { countBar } from './progress.ts';

interface EvalFlags extends SharedFlags {
  readonly format: FormatName;
  readonly map?: string;
  readonly out?: string;
  readonly report?: string;
  readonly scores: readonly string[];
  readonly column: readonly string[];
  readonly concurrency: number;
  readonly resamples: number;
}

export function evalCommand(): Command {
  const collect = (value: string, earlier: readonly string[]) => [...earlier, value];
  return addSharedFlags(new Command('eval'))
    .description('score a labelled set, with metrics, curves and a report')
    .argument('<data>', 'JSON Lines, or packed as .jsonl.gz')
    .addOption(new Option('--format <format>', 'how its lines are read').choices(formatNames).default('generic'))
    .option('--map <file>', "from the data's labels to the policy's codes: {\"S\": \"O2\", ...}")
    .option('--out <folder>', 'where scores and results are kept (default: beside the data)')
    .option('--report <file>', 'write one self-contained HTML page with plots')
    .option('--scores <file>', "another system's scores: lines with an id and a column; may be repeated", collect, [])
    .option('--column <name>', 'a column of those files; may be repeated', collect, [])
    .option('--concurrency <n>', 'checks side by side', parseCount, 64)
    .option('--resamples <n>', 'resamples of the bootstrap intervals', parseCount, 1000)
    .addHelpText(
      'after',
      `
Lines of the generic format are {"id"?, "messages", "role"?, "unsafe": 0 | 1 | null, "categories"?: [codes]}.
Scores are kept as they come: run it again after a kill, and it goes on. Another policy, model or option starts anew.`,
    )
    .action(evaluateFile)
    // Flags after "compare" are its own, though this command has them too.
    .enablePositionalOptions()
    .addCommand(compareCommand());
}

async function evaluateCommand(file: string, flags: EvalFlags): Promise<void> {
  const others = await readOthers(flags);
  await using guard = await loadFromFlags(flags);
  const map = flags.map === undefined ? {} : { map: await readMap(flags.map, guard.policy, flags.format) };
  const folder = flags.out ?? `${stemOf(file)}.eval`;
  let bar: ReturnType<typeof countBar> | undefined;
  try {
    const run = await evaluateFile(guard, file, {
      ...checkOptions(flags),
      ...map,
      format: flags.format,
      concurrency: flags.concurrency,
      folder,
      others,
      onStart: (total, scored) => {
        bar = countBar('Scoring', total, scored);
      },
      onScored: () => bar?.step(),
    });
    bar?.stop();
    await answer(run, join(folder, `${basename(stemOf(file))}.${hashOf(run.identity).slice(0, 12)}.run.json`), flags);
  } finally {
    bar?.stop();
  }
}

/** Keeps the run, and answers with what it comes to. */
async function answer(run: Run, scoresFile: string, flags: EvalFlags): Promise<void> {
  const evaluation = evaluate(run, { resamples: flags.resamples });
  const runFile = join(dirname(scoresFile), `${basename(stemOf(run.data.name))}.${basename(scoresFile, '.scores.jsonl')}.run.json`);
}

/** What other systems said, by id; a column may be in any of the files. */
async function readOthers({ scores, column }: EvalFlags): Promise<Map<string, Record<string, number>>> {
  return new Map();
}

async function readMap(file: string, policy: Policy, format: FormatName): Promise<CategoryMap> {
  const { vocabulary }: Format = formats[format];
  return parseCategoryMap(await readJsonFile(file, 'map-invalid'), file, { policy, ...(vocabulary ? { vocabulary } : {}) });
}

/** A file's name without what says that it is data. */
const stemOf = (file: string): string => file.replace(/\.(?:jsonl|json|ndjson)?(?:\.gz)?$/, '');
