/**
 * `npm run bench:peers [-- jax llama-cpp onnx torch] [--config 768]`: each peer in turn with ours on the same work.
 * Tables here, JSON in bench/results/peers/. Installs the peers first, into this folder, where they are not there yet.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Argument, Command, Option } from 'commander';
import { findWebGpuAdapter } from '../../engine/node/index.ts';
import { embeddedModel } from '../../guard/node/load.ts';
import { wasmFeatures } from '../../kernels/wasm/features.ts';
import { makeModel } from '../make-model/index.ts';
import { sentencePieceTokenizer } from '../make-model/tokenizer-files.ts';
import { namedModels, unscaledRope } from '../shapes.ts';
import { ratios } from './comparisons.ts';
import type { LlamaCppOptions } from './llama-cpp.ts';
import type { Report, Row } from './rows.ts';
import { runSession } from './session.ts';
import { runTorch } from './torch.ts';

const known = ['jax', 'llama-cpp', 'onnx', 'torch'] as const;
type Peer = (typeof known)[number];

/** torch_reference.py has the same shapes by the same names. */
const shapes = ['768', '1b', '7b'] as const satisfies readonly (keyof typeof namedModels)[];

const program = new Command('bench:peers')
  .addArgument(new Argument('[peers...]', 'which peers; all by default').choices(known))
  .addOption(
    new Option('--config <shape>', 'shape of the random model whose prefill is timed').choices(shapes).default('768'),
  )
  .option(
    '--software-vulkan',
    "llama.cpp's Vulkan build on a software adapter too, which takes a quarter of an hour",
    false,
  )
  .option('--plain-simd', 'without relaxed SIMD where Node.js has it behind a flag, as version 20 does', false)
  .parse();
const { config, softwareVulkan, plainSimd } = program.opts<{
  config: (typeof shapes)[number];
  softwareVulkan: boolean;
  plainSimd: boolean;
}>();
// What every later version of Node.js has as it is.
const flags = wasmFeatures().has('relaxed-simd') || plainSimd ? [] : ['--experimental-wasm-relaxed-simd'];
const chosen: readonly Peer[] = program.args.length > 0 ? (program.args as Peer[]) : known;

const here = fileURLToPath(new URL('./', import.meta.url));
if (!existsSync(join(here, 'node_modules'))) {
  console.log('Installing the peers, some 1 GB.');
  // Not `npm ci`: it insists on builds for other platforms, which a registry may lack.
  execFileSync('npm', ['install', '--no-save', '--no-audit', '--no-fund'], { cwd: here, stdio: 'inherit' });
}

const rows: Row[] = [];
const unavailable: Record<string, string> = {};
const report: Report = (row) => {
  rows.push(row);
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${row.session}: ${row.work} ${row.shape} ${row.dtype}`);
};
const session = async (title: string, ended: Promise<string | undefined>) => {
  const first = rows.length;
  const reason = await ended;
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  console.log(`\n${title}`);
  if (rows.length > first) console.log(tableOf(rows.slice(first)));
  if (!reason) return;
  unavailable[title] = reason;
  console.log(`Not ${rows.length > first ? 'run to its end' : 'available'}: ${reason}`);
};

const adapter = await findWebGpuAdapter();
const name = adapter ? `${adapter.name}${adapter.software ? ' (software: no GPU)' : ''}` : 'none';
console.log(`WebGPU adapter: ${name}. Processor: ${cpus()[0]?.model ?? 'unknown'}, ${cpus().length} cores.`);

const scratch = mkdtempSync(join(tmpdir(), 'bench-peers-'));
try {
  if (chosen.includes('jax')) {
    for (const mode of ['webgpu', 'wasm', 'wasm on threads']) {
      await session(`@jax-js/jax (${mode})`, runSession('./jax.ts', mode, report, { flags }));
    }
  }
  if (chosen.includes('onnx')) {
    for (const provider of ['webgpu', 'cpu']) {
      await session(`onnxruntime-node (${provider})`, runSession('./onnx.ts', provider, report, { flags }));
    }
  }
  if (chosen.includes('llama-cpp')) {
    const folder = join(scratch, config);
    await makeModel(folder, {
      like: namedModels[config],
      changes: unscaledRope,
      dtype: 'F16',
      shards: 1,
      // The embedded model's, whatever kind it has: ids beyond it mean nothing.
      makeTokenizer: (request) => sentencePieceTokenizer()({ ...request, kind: 'sentencepiece' }),
    });
    const onGpu = adapter ? (['webgpu'] as const) : [];
    for (const gpu of [false, 'vulkan'] as const) {
      const title = `node-llama-cpp (${gpu || 'cpu'})`;
      if (gpu && adapter?.software && !softwareVulkan) {
        await session(title, Promise.resolve('the adapter is software; --software-vulkan runs it all the same'));
        continue;
      }
      const onCpu = gpu && adapter ? [] : (['cpu'] as const);
      const options: LlamaCppOptions = {
        gpu,
        models: [
          { folder: embeddedModel, ours: [...onGpu, ...onCpu] },
          // A prompt of the larger shapes would take ours minutes on the processor.
          { folder, ours: [...onGpu, ...(config === '768' ? onCpu : [])] },
        ],
        scratch,
      };
      // Its Vulkan build leaves software adapters out unless told to take the first.
      const environment = gpu && adapter?.software ? { GGML_VK_VISIBLE_DEVICES: '0' } : {};
      await session(title, runSession('./llama-cpp.ts', JSON.stringify(options), report, { environment, flags }));
    }
  }
  if (chosen.includes('torch')) {
    const sizes = adapter && !adapter.software ? [] : ['--tokens', '512', '--batch', '1', '8'];
    await session('torch', runTorch(process.env.PYTHON ?? 'python3', ['--config', config, ...sizes], report));
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

function tableOf(own: readonly Row[]): string {
  const right = ['threads', 'ms', 'p90 ms', 'GFLOP/s', 'tokens/s'];
  const head = ['work', 'size', 'dtype', 'who', 'device', ...right, 'note'];
  const table = new Table({
    head,
    colAligns: head.map((title) => (right.includes(title) ? 'right' : 'left')),
    style: { head: [], border: [], compact: true },
  });
  for (const { work, shape, dtype, peer, device, threads, median, p90, gflops, tokensPerSecond, ...rest } of own) {
    const figures = [
      threads?.toString(),
      median?.toFixed(2),
      p90?.toFixed(2),
      gflops?.toFixed(2),
      tokensPerSecond?.toFixed(0),
    ];
    const note = [rest.deviation === undefined ? '' : `deviation ${rest.deviation.toExponential(1)}`, rest.note ?? ''];
    table.push([
      work,
      shape,
      dtype,
      peer,
      device,
      ...figures.map((text) => text ?? ''),
      note.filter(Boolean).join('; '),
    ]);
  }
  return table.toString();
}

const compared = ratios(rows);
if (compared.length > 0) {
  const table = new Table({
    head: ['ours against the fastest of theirs', 'times as fast', 'to reach'],
    style: { head: [], border: [], compact: true },
  });
  for (const { what, ratio, atLeast } of compared) {
    const verdict = atLeast === undefined ? '' : `${atLeast} ${ratio >= atLeast ? 'reached' : 'missed'}`;
    table.push([what, ratio.toFixed(2), verdict]);
  }
  console.log(`\n${table}`);
}

/** The commit that was measured, with a mark where files differ from it. */
function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=40'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

const slug = (adapter?.name ?? 'cpu')
  .toLowerCase()
  .replace(/[^a-z0-9]+/g, '-')
  .slice(0, 40)
  .replace(/-$/, '');
const results = new URL('../results/peers/', import.meta.url);
const part = program.args.length > 0 ? `.${chosen.join('-')}` : '';
const file = new URL(`${slug}${part}.json`, results);
const result = {
  adapter: adapter ?? null,
  processor: { model: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
  node: process.version,
  commit: commit(),
  arguments: process.argv.slice(2),
  date: new Date().toISOString(),
  unavailable,
  ratios: compared,
  peers: rows,
};
mkdirSync(results, { recursive: true });
writeFileSync(file, `${JSON.stringify(result, undefined, 1)}\n`);
console.log(`Kept in ${fileURLToPath(file)}`);
