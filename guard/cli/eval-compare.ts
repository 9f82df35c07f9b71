import { Command, InvalidArgumentError } from 'commander';
import { OptionError } from '../errors.ts';
import { compareSystems, type Side } from '../evaluation/compare.ts';
import { readRun } from '../evaluation/node/run-file.ts';
import { type Way, ways } from '../evaluation/questions.ts';
import { describeComparison, describeRefused, differenceTable } from '../evaluation/tables.ts';
import { renderText } from '../report/text.ts';
import { parseCount, parseSeed } from './options.ts';

interface CompareFlags {
  readonly before?: string;
  readonly after?: string;
  readonly ways?: readonly Way[];
  readonly resamples: number;
  readonly seed: number;
  readonly json?: true;
}

export function compareCommand(): Command {
  return new Command('compare')
    .description('two systems, of one run or of two, on the samples that both have: paired differences and their tests')
    .argument('<run>', 'what eval kept: a .run.json file')
    .argument('[other]', 'another')
    .option('--before <system>', 'a system of the first run, as its tables call it (default: what decides)')
    .option('--after <system>', 'a system of the second run, or of the only one')
    .option('--ways <ways>', `of ${ways.join(', ')} these alone: fewer tests are adjusted for less`, parseWays)
    .option('--resamples <n>', 'resamples of the bootstrap intervals', parseCount, 1000)
    .option('--seed <n>', 'of what is drawn at random', parseSeed, 1)
    .option('--json', 'one JSON object on standard output')
    .addHelpText(
      'after',
      `
What decides is the calibrated score where the run has one, else the score. Examples:
  llama-guard eval compare a.run.json b.run.json
  llama-guard eval compare a.run.json --before guard --after "guard, calibrated"
  llama-guard eval compare a.run.json b.run.json --before guard --after guard --ways overall`,
    )
    .action(compare);
}

async function compare(first: string, second: string | undefined, flags: CompareFlags): Promise<void> {
  const { before, after, ways, resamples, seed, json } = flags;
  if (second === undefined && (before === undefined || after === undefined)) {
    throw new OptionError(
      'option-invalid',
      'Of one run two of its systems are compared: name them with --before and --after, or give another run.',
    );
  }
  const run = await readRun(first);
  const other = second === undefined ? run : await readRun(second);
  const side = (run: Side['run'], system: string | undefined): Side => ({
    run,
    ...(system === undefined ? {} : { system }),
  });
  const comparison = compareSystems(side(run, before), side(other, after), {
    resamples,
    seed,
    ...(ways ? { ways } : {}),
  });
  if (json) {
    process.stdout.write(`${JSON.stringify(comparison)}\n`);
    return;
  }
  const { refused } = comparison;
  const texts = [
    ...describeComparison(comparison),
    renderText(differenceTable(comparison)),
    ...describeRefused(refused),
  ];
  process.stdout.write(`${texts.join('\n')}\n`);
}

function parseWays(text: string): Way[] {
  return text.split(',').map((name) => {
    const way = ways.find((way) => way === name.trim());
    if (way !== undefined) return way;
    throw new InvalidArgumentError(`They are ${ways.join(', ')}, with commas between them.`);
  });
}
