import { Command } from 'commander';
import { formatBytes } from '../../engine/format.ts';
import { type Backend, type LlamaConfig, memoryNeeds, parameterCount } from '../../engine/index.ts';
import { openModelFolder } from '../../engine/node/disk-folder.ts';
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
  using tokenizer = await loadTokenizer(folder);
  assertFits(tokenizer, model.config.vocabularySize);
  const format = await folderFormat(model, flags.promptFormat);
  const policy = (await policyOf(flags))(await folderPolicy(model, format));
  const dtype = resolveDType(flags.dtype, model);
  const sizes = resolveCacheTokens(flags.cacheMemory, model.config);
  const needs = Object.fromEntries(weightDTypes.map((d) => [d, memoryNeeds(model.config, { ...sizes, dtype: d })]));
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

/** The windows of a model, where it has some. */
function windows({ slidingWindows }: LlamaConfig): string {
  const sliding = slidingWindows?.filter((tokens) => tokens !== null) ?? [];
  return sliding.length > 0 ? `, ${sliding.length} layers see ${sliding[0]} tokens back` : '';
}
