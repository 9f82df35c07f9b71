import { Command } from 'commander';
import { formatBytes } from '../../engine/format.ts';
import type { LlamaConfig } from '../../engine/index.ts';
import { type AdapterInspection, type Inspection, inspectFolder } from '../node/inspect.ts';
import { embeddedModel } from '../node/load.ts';
import { addSharedFlags, exitCodes, policyOf, type SharedFlags, showFlags } from './options.ts';

const shownFlags = [
  ...(['model', 'adapter', 'promptFormat', 'policy', 'include', 'exclude'] as const),
  ...(['device', 'dtype', 'cacheMemory', 'threads', 'json'] as const),
];

export function inspectCommand(): Command {
  return showFlags(addSharedFlags(new Command('inspect')), ...shownFlags)
    .description('show what a model folder holds, what it needs, and what would keep it from working on this device')
    .argument('[dir]', 'model folder (default: --model, else the embedded one)')
    .addHelpText('after', '\nWeights are not read. Ends with 2 where something would not work, and tells all of it.')
    .action((dir: string | undefined, flags: SharedFlags) => inspect(dir ?? flags.model ?? embeddedModel, flags));
}

async function inspect(folder: string, flags: SharedFlags): Promise<void> {
  const { adapter, promptFormat, cacheMemory, threads, device, dtype } = flags;
  const inspection = await inspectFolder(folder, {
    device,
    dtype,
    policy: await policyOf(flags),
    ...(adapter === undefined ? {} : { mergedAdapter: adapter }),
    ...(promptFormat === undefined ? {} : { promptFormat }),
    ...(cacheMemory === undefined ? {} : { cacheMemory }),
    ...(threads === undefined ? {} : { threads }),
  });
  if (inspection.findings.length > 0) process.exitCode = exitCodes.badInput;
  process.stdout.write(flags.json ? `${JSON.stringify(inspection)}\n` : shown(inspection));
}

/** A line for each thing that is known. */
function shown(inspection: Inspection): string {
  const { folder, architecture, config, context, template, format, categories, needs, adapter, findings } = inspection;
  const known = (name: string, value: string | null | undefined) => (value == null ? [] : [[name, value] as const]);
  const lines = [
    ...known('folder', folder),
    ...known('architecture', config && `${architecture}, ${sizesOf(config)}`),
    ...known('attention', config && attentionOf(config)),
    ...known('parameters', config && parametersOf(inspection)),
    ...known('adapter', adapter && adapterLine(adapter)),
    ...known('context', context === null ? null : `${context} tokens`),
    ...known('vocabulary', config && `${config.vocabularySize} tokens`),
    ...known('tokenizer', inspection.tokenizer && `${inspection.tokenizer}, ${inspection.vocabulary} tokens`),
    ...known('template', format && (template ?? "none: the frame is the format's")),
    ...known('format', format),
    ...known('categories', categories?.map(({ code, name }) => `${code} ${name}`).join(', ')),
    ...Object.entries(needs ?? {}).map(([dtype, { total, weights, cache, activations }]) => {
      const parts = `weights ${formatBytes(weights)}, cache ${formatBytes(cache)}, activations ${formatBytes(activations)}`;
      return [
        `memory, ${dtype}`,
        `${formatBytes(total)} (${parts})${dtype === inspection.dtype ? ', as it would be held' : ''}`,
      ] as const;
    }),
    ...known('device', inspection.device && `${inspection.device.kind}: ${inspection.device.reason}`),
    ...known('fits', fitting(inspection)),
    ...findings.map(({ code, message }) => ['would fail', `${code}: ${message}`] as const),
  ];
  return lines.map(([name, value]) => `${name.padEnd(13)} ${value}\n`).join('');
}

const sizesOf = ({ numHiddenLayers, hiddenSize, intermediateSize }: LlamaConfig): string =>
  `${numHiddenLayers} layers, hidden ${hiddenSize}, MLP ${intermediateSize}`;

/** Heads, and the windows of a model where it has some. */
function attentionOf({ numAttentionHeads, headDim, numKeyValueHeads, slidingWindows }: LlamaConfig): string {
  const sliding = slidingWindows?.filter((tokens) => tokens !== null) ?? [];
  const windows = sliding.length > 0 ? `, ${sliding.length} layers see ${sliding[0]} tokens back` : '';
  return `${numAttentionHeads} heads of ${headDim}, ${numKeyValueHeads} key-value heads${windows}`;
}

function parametersOf({ parameters, stored, quantised, bytes }: Inspection): string {
  const dtypes = [...(quantised === null ? [] : [quantised]), ...(stored ?? [])].join('; ');
  const files = bytes === null ? '' : ` stored as ${dtypes} (${formatBytes(bytes)})`;
  return `${parameters!.toLocaleString('en')}${files}`;
}

function fitting({ fits, device, needs, dtype }: Inspection): string | null {
  if (fits === null || !device || !needs || !dtype) return null;
  if (device.memoryBudget === null) return 'not known: WebGPU does not tell the memory of a GPU';
  return fits ? 'yes' : `no: there is ${formatBytes(device.memoryBudget)}`;
}

function adapterLine({ folder, base, ranks, targets, layers, parameters, stored, apart }: AdapterInspection): string {
  return (
    `${folder}, merged: rank ${ranks.join(', ')} on ${targets.join(', ')} of ${layers} layers, ` +
    `${parameters.toLocaleString('en')} parameters stored as ${stored.join(', ')}${base ? `, trained on ${base}` : ''}` +
    `${apart === null ? '' : `; kept apart it would take ${formatBytes(apart)} more`}`
  );
}
