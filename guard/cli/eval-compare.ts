import { Command } from 'commander';
import { compareRuns } from '../evaluation/compare.ts';
import { readRun } from '../evaluation/node/run-file.ts';
import { differenceTable } from '../evaluation/tables.ts';
import { renderText } from '../report/text.ts';
import { parseCount } from './options.ts';

interface CompareFlags {
  readonly resamples: number;
  readonly json?: true;
}

export function compareCommand(): Command {
  return new Command('compare')
    .description('two runs on the samples that both have, with paired bootstrap differences')
    .argument('<before>', 'what eval kept: a .run.json file')
    .argument('<after>', 'another')
    .option('--resamples <n>', 'resamples of the bootstrap intervals', parseCount, 1000)
    .option('--json', 'one JSON object on standard output')
    .action(compare);
}

async function compare(before: string, after: string, { resamples, json }: CompareFlags): Promise<void> {
  const [a, b] = await Promise.all([readRun(before), readRun(after)]);
  const comparison = compareRuns(a, b, { resamples });
  if (json) {
    process.stdout.write(`${JSON.stringify({ before: a.identity, after: b.identity, ...comparison })}\n`);
    return;
  }
  const { common, onlyBefore, onlyAfter, differences } = comparison;
  const title = `${common} samples in common; ${onlyBefore} only before, ${onlyAfter} only after`;
  process.stdout.write(`${renderText(differenceTable(title, differences, ['before', 'after']))}\n`);
}
