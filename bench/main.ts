/** `npm run bench [-- COMMAND]`: verified, then timed; tables here, JSON in bench/results/. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { howToGetWebGpu } from '../engine/node/open-webgpu.ts';
import { renderText } from '../guard/report/text.ts';
import { LlamaGuardError } from '../kernels/errors.ts';
import { compareResults } from './compare.ts';
import { describeEnvironment } from './environment.ts';
import { options as formatOptions } from './formats.ts';
import { options as loadOptions } from './load.ts';
import { type Flags, type Measurement, type ThreadFlags, threadsOption, wholeNumber } from './measurement.ts';
import { options as modelOptions } from './models.ts';
import { formatResult, makeResult, type Result, readResult, type Sections } from './schema.ts';
import { describeMachine, tablesOf } from './tables.ts';
import { options as tuneOptions } from './tune.ts';

const seconds = new Option('--seconds <n>', 'begin nothing more after so many seconds')
  .argParser(wholeNumber)
  .default(90);

/** Another measurement joins by an entry here, and its part of the result by one in schema.ts and tables.ts. */
const measurements: readonly Measurement<never>[] = [
  {
    name: 'kernels',
    does: 'every variant of every kernel, verified and timed, against the ceilings of each device',
    options: [new Option('--only <name>', 'only operations whose name holds this'), seconds, threadsOption],
    load: () => import('./kernels.ts'),
  },
  {
    name: 'guard',
    does: 'the embedded model end to end: cold start, single checks, batches',
    options: [seconds, threadsOption],
    load: () => import('./guard.ts'),
  },
  {
    name: 'models',
    does: 'models of real shapes, with random weights',
    options: modelOptions,
    load: () => import('./models.ts'),
  },
  {
    name: 'formats',
    does: 'what each way to hold weights costs the scores, and what memory it saves',
    options: formatOptions,
    load: () => import('./formats.ts'),
  },
  {
    name: 'load',
    does: 'how fast models come from the disk to each device, beside a plain read of the same files',
    options: loadOptions,
    load: () => import('./load.ts'),
  },
  {
    name: 'tune',
    does: 'which kernels are fastest for a model on this adapter; kept for every load from then on',
    options: tuneOptions,
    load: () => import('./tune.ts'),
  },
];

/** What runs without a subcommand. */
const byDefault = ['kernels', 'guard'];

/** What a command line may hold, as far as it names the file of the result. */
type AnyFlags = Pick<Flags, 'device' | 'quick'> &
  ThreadFlags & { out?: string; only?: string; config?: readonly string[]; dtype?: string };

/** A command that runs some measurements, with the flags that all have and those of each. */
function commandOf(name: string, does: string, which: readonly Measurement<never>[]): Command {
  const command = new Command(name)
    .description(does)
    .addOption(new Option('--device <device>', 'where to compute').choices(['auto', 'webgpu', 'cpu']).default('auto'))
    .option('--quick', 'fewer runs and smaller cases, for a glance', false)
    .option('--out <file>', 'where the JSON goes (default: bench/results/, by adapter)')
    .action((flags) => runMeasurements(which, flags));
  for (const option of new Set(which.flatMap(({ options = [] }) => options))) command.addOption(option);
  return command;
}

async function runMeasurements(which: readonly Measurement<never>[], { out, ...flags }: AnyFlags): Promise<void> {
  const environment = await describeEnvironment();
  console.log(describeMachine({ environment }).join('\n'));
  const hasAdapter = environment.adapter !== null;
  if (!hasAdapter) console.log(howToGetWebGpu);
  let sections: Sections = {};
  for (const { load } of which) {
    const { run } = await load();
    const own = await run({ ...flags, hasAdapter, progress } as never);
    progress('');
    for (const table of tablesOf(makeResult(environment, own))) console.log(renderText(table));
    sections = { ...sections, ...own };
  }
  const file = out ?? defaultFile(environment, which, flags);
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, formatResult(makeResult(environment, sections)));
  console.log(`\nKept in ${relative('.', file)}`);
}

/** Shows what is under way, on a terminal. */
function progress(what: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${what}`);
}

function defaultFile(
  { adapter }: Result['environment'],
  which: readonly Measurement<never>[],
  { only, config = [], dtype, quick, device, threads }: AnyFlags,
): string {
  const whole = which.length === byDefault.length;
  const parts = [
    adapter?.name ?? 'cpu',
    ...(whole ? [] : which.map(({ name }) => name)),
    only ?? '',
    config.join('-'),
    dtype ?? '',
    quick ? 'quick' : '',
    device === 'auto' ? '' : device,
    threads === undefined ? '' : `${threads} threads`,
  ];
  const slug = (text: string) =>
    text
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, '-')
      .replace(/^-|-$/g, '')
      .slice(0, 40)
      .replace(/-$/, '');
  return fileURLToPath(new URL(`./results/${parts.filter(Boolean).map(slug).join('.')}.json`, import.meta.url));
}

const program = commandOf(
  'bench',
  `Measures; without a command: ${byDefault.join(', then ')}.`,
  measurements.filter(({ name }) => byDefault.includes(name)),
)
  // Flags after a command are the command's, though this one has them too.
  .enablePositionalOptions();
for (const measurement of measurements) {
  program.addCommand(commandOf(measurement.name, measurement.does, [measurement]));
}
program
  .command('compare <before> <after>')
  .description('two results side by side, with ratios')
  .action(async (before: string, after: string) => {
    const [a, b] = await Promise.all([readResult(before), readResult(after)]);
    for (const table of compareResults(a, b)) console.log(renderText(table));
  });
program
  .command('report <files...>')
  .description('results as one self-contained HTML page with plots')
  .option('--out <file>', 'where the page goes', 'bench-report.html')
  .action(async (files: string[], { out }: { out: string }) => {
    const { renderReport } = await import('./report.ts');
    await writeFile(out, renderReport(await Promise.all(files.map(readResult))));
    console.log(`Kept in ${out}`);
  });

try {
  await program.parseAsync();
} catch (error) {
  progress('');
  console.error(error instanceof LlamaGuardError ? `${error.code}: ${error.message}` : error);
  process.exitCode = 1;
}
