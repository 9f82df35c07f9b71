import { Command } from 'commander';
import type { AdapterFolder } from '../../engine/adapter-folder.ts';
import { formatBytes } from '../../engine/format.ts';
import { type Backend, type LlamaConfig, memoryNeeds, mergedSource, parameterCount } from '../../engine/index.ts';
import { openAdapterFolder, openModelFolder } from '../../engine/node/disk-folder.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { weightDTypes } from '../../kernels/contract.ts';
import { assertFits } from '../../tokenizer/index.ts';
import { loadTokenizer } from '../../tokenizer/load.node.ts';
import { folderPolicy, resolveCacheTokens, resolveDType } from '../assemble.ts';
import { folderFormat } from '../folder-format.ts';
import { embeddedModel } from '../node/load.ts';
import { addSharedFlags, policyOf, type SharedFlags, showFlags } from './options.ts';

const shownFlags = [
  ...(['model', 'promptFormat', 'policy', 'include', 'exclude'] as const),
  ...(['device', 'dtype', 'cacheMemory', 'threads', 'json'] as const),
];

export function inspectCommand(): Command {
  return showFlags(addSharedFlags(new Command('inspect')), ...shownFlags)
    .description('show what a model folder holds, what it needs, and whether it fits this device')
    .argument('[dir]', 'model folder (default: --model, else the embedded one)')
    .action((dir: string | undefined, flags: SharedFlags) => inspect(dir ?? flags.model ?? embeddedModel, flags));
}

async function inspect(folder: string, flags: SharedFlags): Promise<void> {
  await using model = await openModelFolder(folder);
  await using adapter = flags.adapter === undefined ? undefined : await openAdapterFolder(flags.adapter, model.config);
  if (adapter) mergedSource(model.source, adapter);
  using tokenizer = await loadTokenizer(folder);
  assertFits(tokenizer, model.config.vocabularySize);
  const format = await folderFormat(model, flags.promptFormat);
  const policy = (await policyOf(flags))(await folderPolicy(model, format));
  const dtype = resolveDType(flags.dtype, model);
  const sizes = resolveCacheTokens(flags.cacheMemory, model.config);
  const needs = Object.fromEntries(weightDTypes.map((d) => [d, memoryNeeds(model.config, { ...sizes, dtype: d })]));
  const kept = adapter && memoryNeeds(model.config, { ...sizes, dtype, adapters: { kept: adapter } });
  const { threads } = flags;
  const { backend, decision } = await openDevice(flags.device, {
    memoryNeeded: needs[dtype]!.total,
    ...(threads === undefined ? {} : { threads }),
  });
  await using _ = backend;
  const budget = Number.isFinite(backend.memoryBudget) ? backend.memoryBudget : null;
  const report = {
    folder,
    architecture: model.architecture,
    config: model.config,
    parameters: parameterCount(model.config),
    stored: model.storedDTypes,
    bytes: model.source.totalBytes,
    vocabulary: tokenizer.vocabularySize,
    format: format.name,
    categories: policy.categories.map(({ code, name }) => ({ code, name })),
    needs,
    ...(adapter ? { adapter: describeAdapter(adapter, kept!.total - needs[dtype]!.total) } : {}),
    dtype,
    device: { ...decision.device, reason: decision.reason, memoryBudget: budget },
    fits: budget === null || needs[dtype]!.total <= budget,
  };
  if (flags.json) {
    process.stdout.write(`${JSON.stringify(report)}\n`);
    return;
  }
  const { config } = report;
  const rows = [
    ['folder', folder],
    [
      'architecture',
      `${report.architecture}, ${config.numHiddenLayers} layers, hidden ${config.hiddenSize}, MLP ${config.intermediateSize}`,
    ],
    [
      'attention',
      `${config.numAttentionHeads} heads of ${config.headDim}, ${config.numKeyValueHeads} key-value heads${windows(config)}`,
    ],
    [
      'parameters',
      `${report.parameters.toLocaleString('en')} stored as ${report.stored.join(', ')} (${formatBytes(report.bytes)})`,
    ],
    ...(report.adapter ? [['adapter', adapterLine(report.adapter)]] : []),
    ['context', `${config.maxPositionEmbeddings} tokens`],
    ['vocabulary', `${config.vocabularySize} (tokenizer: ${report.vocabulary})`],
    ['format', report.format],
    ['categories', report.categories.map(({ code, name }) => `${code} ${name}`).join(', ')],
    ...Object.entries(needs).map(([d, n]) => [
      `memory, ${d}`,
      `${formatBytes(n!.total)} (weights ${formatBytes(n!.weights)}, cache ${formatBytes(n!.cache)}, activations ${formatBytes(n!.activations)})`,
    ]),
    ['device', `${decision.device.kind}: ${decision.reason}`],
    ['fits', fitting(report, backend)],
  ];
  process.stdout.write(rows.map(([name, value]) => `${name!.padEnd(13)} ${value}\n`).join(''));
}

function fitting(
  { fits, device }: { fits: boolean; device: { memoryBudget: number | null } },
  backend: Backend,
): string {
  if (device.memoryBudget === null) return 'not known: WebGPU does not tell the memory of a GPU';
  if (fits) return 'yes';
  return `no: there is ${formatBytes(device.memoryBudget)}${backend.memoryBound ? `, ${backend.memoryBound}` : ''}`;
}

/** What there is to tell of an adapter. @param apart bytes that it would take kept apart, beside a model of the dtype */
function describeAdapter({ folder, base, updates, source, storedDTypes }: AdapterFolder, apart: number) {
  const modules = [...updates.keys()].map((name) => name.split('.'));
  const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];
  return {
    folder,
    base: base ?? null,
    ranks: unique([...updates.values()].map(({ rank }) => rank)).sort((a, b) => a - b),
    targets: unique(modules.map((parts) => parts.at(-2)!)),
    layers: unique(modules.map((parts) => parts[2]!)).length,
    parameters: [...source.tensors.values()].reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0),
    stored: storedDTypes,
    bytes: source.totalBytes,
    apart,
  };
}

function adapterLine(adapter: ReturnType<typeof describeAdapter>): string {
  const { folder, base, ranks, targets, layers, parameters, stored, apart } = adapter;
  return (
    `${folder}, merged: rank ${ranks.join(', ')} on ${targets.join(', ')} of ${layers} layers, ` +
    `${parameters.toLocaleString('en')} parameters stored as ${stored.join(', ')}${base ? `, trained on ${base}` : ''}; ` +
    `kept apart it would take ${formatBytes(apart)} more`
  );
}

/** The windows of a model, where it has some. */
function windows({ slidingWindows }: LlamaConfig): string {
  const sliding = slidingWindows?.filter((tokens) => tokens !== null) ?? [];
  return sliding.length > 0 ? `, ${sliding.length} layers see ${sliding[0]} tokens back` : '';
}
