import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Option } from 'commander';
import { type LlamaConfig, parameterCount, parseLlamaConfig, type WeightDType } from '../engine/index.ts';
import type { FloatDType } from '../engine/safetensors/convert.ts';
import type { LoadRun, LoadTask, ReadRun } from './load-once.ts';
import { lookUp } from './make-model/catalogue.ts';
import type { HuggingFaceConfig } from './make-model/config.ts';
import { writeModelFolder } from './make-model/index.ts';
import { scaleConfig } from './make-model/scale.ts';
import { smallestVocabularies } from './make-model/tokenizer-files.ts';
import { summarise } from './measure.ts';
import { devicesOf, type Flags, type ThreadFlags, threadsOption, wholeNumber } from './measurement.ts';
import type { ComputedOn, DeviceKind, LoadingResult, LoadingRow, Sections, Target } from './schema.ts';

interface LoadFlags extends ThreadFlags {
  /** Megabytes. */
  readonly size: number;
  readonly stored: readonly FloatDType[];
  readonly folder: string;
  readonly rounds: number;
}

const stored: Readonly<Record<string, FloatDType>> = { f16: 'F16', bf16: 'BF16', f32: 'F32' };

export const options: readonly Option[] = [
  new Option('--size <MB>', 'megabytes (1e6) of weights, about').argParser(wholeNumber).default(2000),
  new Option('--stored <dtypes>', 'how they are stored: some of f16,bf16,f32')
    .argParser((text: string) => text.split(',').map((name) => stored[name.trim()] ?? unknown(name)))
    .default(Object.values(stored), 'all three'),
  new Option('--folder <dir>', 'where the models are kept from run to run').default(
    join(tmpdir(), 'llama-guard-bench-load'),
    "in the system's folder for temporary files",
  ),
  new Option('--rounds <n>', 'times that each is loaded').argParser(wholeNumber).default(5),
  threadsOption,
];

function unknown(name: string): never {
  throw new RangeError(`'--stored' takes some of ${Object.keys(stored).join(',')}, not ${name}.`);
}

/** As `auto` has it. */
const heldAs: Readonly<Record<FloatDType, WeightDType>> = { F16: 'f16', BF16: 'f16', F32: 'f32' };
const shards = 4;
/** What loading is to reach of a plain read, and the bytes of host memory beyond the device's that it may take. */
const goals = { share: 0.8, hostBytes: 2 ** 30 } as const;

/** Loading of random models of one size, beside plain reads of the same files in the same processes. */
export async function run(flags: Flags & LoadFlags): Promise<Sections> {
  const { size, stored, folder, threads, progress } = flags;
  const rounds = flags.quick ? 1 : flags.rounds;
  const results: LoadingResult[] = [];
  const models = new Map<FloatDType, string>();
  for (const dtype of stored) {
    progress(`writing a model in ${dtype}`);
    models.set(dtype, await modelOf(folder, size * 1e6, dtype));
  }
  for (const device of devicesOf(flags)) {
    const rows: LoadingRow[] = [];
    let on: ComputedOn | undefined;
    for (const [dtype, model] of models) {
      const runs: { loaded: LoadRun; kept: ReadRun }[] = [];
      for (let round = 0; round < rounds; round++) {
        progress(`${device}: ${dtype}, round ${round + 1} of ${rounds}`);
        const task = { folder: model, ...(threads === undefined ? {} : { threads }) };
        const kept = await inProcess<ReadRun>({ ...task, kind: 'keep' });
        runs.push({ kept, loaded: await inProcess<LoadRun>({ ...task, kind: 'load', device, dtype: heldAs[dtype] }) });
      }
      on ??= runs[0]!.loaded.on;
      rows.push(rowOf(dtype, runs));
    }
    results.push({ ...on!, rows, targets: targetsOf(device, rows) });
  }
  return { loading: results };
}

function rowOf(stored: FloatDType, runs: readonly { readonly loaded: LoadRun; readonly kept: ReadRun }[]): LoadingRow {
  const { bytes } = runs[0]!.loaded;
  const median = (values: readonly number[]) => summarise(values).median;
  const speed = (ms: readonly number[]) => bytes / median(ms) / 1e6;
  const loadMs = runs.map(({ loaded }) => loaded.loadMs);
  return {
    stored,
    dtype: heldAs[stored],
    bytes,
    ...summarise(loadMs),
    gigabytesPerSecond: speed(loadMs),
    readGigabytesPerSecond: speed(runs.map(({ loaded }) => loaded.readMs)),
    keptGigabytesPerSecond: speed(runs.map(({ kept }) => kept.readMs)),
    // Round by round, so that what else the machine does bears on both alike.
    shareOfRead: median(runs.map(({ loaded }) => loaded.readMs / loaded.loadMs)),
    shareOfKept: median(runs.map(({ loaded, kept }) => kept.readMs / loaded.loadMs)),
    deviceBytes: runs[0]!.loaded.deviceBytes,
    hostBytes: median(runs.map(({ loaded }) => loaded.hostBytes)),
  };
}

function targetsOf(device: DeviceKind, rows: readonly LoadingRow[]): Target[] {
  return rows.flatMap(({ stored, dtype, shareOfRead, shareOfKept, hostBytes }) => {
    const what = `${device}, ${stored} to ${dtype}`;
    return [
      { name: `${what}: share of a plain read`, value: shareOfRead, bound: 'at least', target: goals.share },
      {
        name: `${what}: share of a plain read that is kept`,
        value: shareOfKept,
        bound: 'at least',
        target: goals.share,
      },
      {
        name: `${what}: host memory, MiB`,
        value: hostBytes / 2 ** 20,
        bound: 'at most',
        target: goals.hostBytes / 2 ** 20,
      },
    ] as const;
  });
}

const main = fileURLToPath(new URL('./load-once.ts', import.meta.url));

/** A fresh process each, whose memory nothing else has grown. */
async function inProcess<Run>(task: LoadTask): Promise<Run> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', main, JSON.stringify(task)]);
  return JSON.parse(stdout);
}

/** A folder of a random model of about so many bytes, made where it is not there yet. */
async function modelOf(root: string, bytes: number, dtype: FloatDType): Promise<string> {
  const config = configOf(bytes / (dtype === 'F32' ? 4 : 2));
  const folder = join(root, `${dtype}-${parameterCount(parsed(config))}`);
  // Written last.
  const isThere = await stat(join(folder, 'config.json')).catch(() => undefined);
  if (!isThere) await writeModelFolder(folder, config, { dtype, shards });
  return folder;
}

const like = 'llama-guard-3-1b';
const parsed = (config: HuggingFaceConfig): LlamaConfig => parseLlamaConfig(config, like);

/** Of Llama Guard 3 1B's proportions, the largest of at most so many parameters; beyond its size, with more layers. */
function configOf(parameters: number): HuggingFaceConfig {
  const { config, tokenizer } = lookUp(like);
  const whole = parameterCount(parsed(config));
  if (parameters >= whole) {
    const perLayer =
      parameterCount(parsed({ ...config, num_hidden_layers: 2 })) -
      parameterCount(parsed({ ...config, num_hidden_layers: 1 }));
    const more = Math.floor((parameters - whole) / perLayer);
    return { ...config, num_hidden_layers: config.num_hidden_layers + more };
  }
  for (let percent = 99; percent > 1; percent--) {
    const scaled = scaleConfig(config, percent / 100, smallestVocabularies[tokenizer]);
    if (parameterCount(parsed(scaled)) <= parameters) return scaled;
  }
  return scaleConfig(config, 0.01, smallestVocabularies[tokenizer]);
}
