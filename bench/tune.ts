import { Option } from 'commander';
import { Llama, type WeightDType } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { tuningKey, tuningPath, writeTuning } from '../engine/node/index.ts';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { weightDTypes } from '../kernels/contract.ts';
import type { Flags } from './measurement.ts';
import type { Sections } from './schema.ts';

export interface TuneFlags {
  readonly model: string;
  readonly dtype: WeightDType;
}

export const options: readonly Option[] = [
  new Option('--model <dir>', 'the model whose shapes are measured').default(embeddedModel, 'the embedded model'),
  new Option('--dtype <dtype>', 'how weights are held').choices(weightDTypes).default('f16'),
];

/** Measures anew which kernels serve a model best on this adapter, and keeps it for every load from now on. */
export async function run({ hasAdapter, model, dtype, progress }: Flags & TuneFlags): Promise<Sections> {
  if (!hasAdapter) return {};
  await using opened = await openModelFolder(model);
  const backend = await openWebGpu({ tuning: 'ignore' });
  await using llama = await Llama.load(backend, opened.config, opened.source, { dtype });
  const choices = await llama.tune({
    onProgress: ({ done, total, choice }) => progress(`${((100 * done) / total).toFixed(0)}% ${choice}`),
  });
  const key = await tuningKey(backend);
  await writeTuning(key, choices!);
  const rows = [...choices!].map(([shapes, variant]) => ({ shapes, variant }));
  return { tuning: { file: tuningPath(key), choices: rows } };
}
