import { basename, join } from 'node:path';
import { Command } from 'commander';
import { OptionError } from '../errors.ts';
import { evaluate } from '../evaluation/figures.ts';
import { readLines } from '../evaluation/node/lines.ts';
import { keyOf, labelsKeyOf } from '../evaluation/node/score-file.ts';
import { readOtherScores } from '../evaluation/other-scores.ts';
import { describeRun, tablesOf } from '../evaluation/tables.ts';
import { renderText } from '../report/text.ts';
import { compareCommand } from './eval-compare.ts';
import { addSharedFlags, calibrationFlag, exitCodes, loadFromFlags, type SharedFlags, shuffleFlag } from './options.ts';
import { assertWritable, writeOutput } from './output.ts';
import { addDataFlags, type DataFlags, describeFailures, lookAtData, scoreSet, stemOf } from './score-set.ts';

interface EvalFlags extends SharedFlags, DataFlags {
  readonly out?: string;
  readonly report?: string;
  readonly scores?: readonly string[];
  readonly column?: readonly string[];
}

export function evalCommand(): Command {
  const collect = (value: string, earlier: readonly string[] = []) => [...earlier, value];
  return (
    addDataFlags(addSharedFlags(new Command('eval')))
      .description('score a labelled set, with metrics, curves and a report')
      .argument('<data>', 'JSON Lines, or packed as .jsonl.gz')
      .addOption(calibrationFlag())
      .addOption(shuffleFlag())
      .option('--out <folder>', 'where scores and results are kept (default: beside the data)')
      .option('--report <file>', 'write one self-contained HTML page with plots')
      .option('--scores <file>', "another system's scores: lines with an id and a column; may be repeated", collect)
      .option('--column <name>', 'a column of those files; may be repeated', collect)
      .addHelpText(
        'after',
        `
Lines of the generic format are {"id"?, "messages", "role"?, "unsafe": 0 | 1 | null, "categories"?: [codes]}.
Scores are kept as they come: run it again after a kill, and it goes on. Another policy, model or option starts anew.`,
      )
      .action(evaluateCommand)
      // Flags after "compare" are its own, though this command has them too.
      .enablePositionalOptions()
      .addCommand(compareCommand())
  );
}

async function evaluateCommand(file: string, flags: EvalFlags): Promise<void> {
  const report = flags.report === undefined ? undefined : { file: flags.report, ...(await loadReport()) };
  if (report) await assertWritable(report.file, '--report');
  const others = await readOthers(flags);
  await lookAtData(file, flags);
  await using guard = await loadFromFlags(flags);
  const folder = flags.out ?? `${stemOf(file)}.eval`;
  const run = await scoreSet(guard, file, flags, { folder, others });
  const key = `${keyOf(run.identity)}.${labelsKeyOf(run)}`;
  const runFile = join(folder, `${basename(stemOf(file))}.${key}.run.json`);
  await writeOutput(runFile, '--out', `${JSON.stringify(run)}\n`);
  const evaluation = evaluate(run, { resamples: flags.resamples, seed: flags.seed });
  if (report) await writeOutput(report.file, '--report', report.renderEvaluation(run, evaluation));
  if (run.failures.length > 0) process.exitCode = exitCodes.badInput;
  if (flags.json) {
    const { rows: _rows, ...told } = run;
    process.stdout.write(`${JSON.stringify({ ...told, ...evaluation, file: runFile })}\n`);
    return;
  }
  const texts = [
    ...describeRun(run, evaluation),
    ...describeFailures(run),
    ...tablesOf(run, evaluation).map(renderText),
  ];
  process.stdout.write(`${texts.join('\n')}\n\nKept in ${runFile}\n`);
}

async function readOthers({ scores = [], column = [] }: EvalFlags) {
  if ((scores.length === 0) !== (column.length === 0)) {
    throw new OptionError('option-invalid', 'Give --scores FILE together with --column NAME.');
  }
  return readOtherScores(
    scores.map((file) => ({ name: file, lines: readLines(file) })),
    column,
  );
}

/** The report and what draws it, which nothing else of this package needs. */
async function loadReport() {
  try {
    return await import('../evaluation/report.ts');
  } catch (cause) {
    throw new OptionError(
      'option-invalid',
      'The report is drawn by packages that are not installed: npm install @observablehq/plot linkedom',
      { cause },
    );
  }
}
