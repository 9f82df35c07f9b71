import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { adapterConfig } from '../../bench/make-model/lora.ts';
import { expectedTensors } from '../../engine/config.ts';
import type { LlamaConfig } from '../../engine/index.ts';
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import { seededRandom } from '../../kernels/random.ts';
import { normals, type TensorData, writeSafetensors } from './model-files.ts';

export const projections = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;
export type Projection = (typeof projections)[number];

export interface AdapterOptions {
  readonly targets?: readonly Projection[];
  readonly rank?: number;
  readonly alpha?: number;
  /** Ranks of single modules, which `rank_pattern` then tells. */
  readonly ranks?: Readonly<Record<string, number>>;
  /** By default all. */
  readonly layers?: readonly number[];
  readonly seed?: number;
  readonly dtype?: FloatDType;
  /** Fields of adapter_config.json that are to be other than PEFT writes them. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** The modules of a model by their names, with the shapes of their weights. */
export const modulesOf = (config: LlamaConfig): Map<string, readonly [outputs: number, inputs: number]> =>
  new Map(
    [...expectedTensors(config)]
      .filter(([name]) => name.endsWith('_proj.weight'))
      .map(([name, shape]) => [name.slice(0, -'.weight'.length), shape as [number, number]]),
  );

/** The tensors of an adapter, to be changed and written. Twice their product is half as large as the weights are. */
export function adapterTensors(config: LlamaConfig, options: AdapterOptions = {}): Record<string, TensorData> {
  const { targets = ['q_proj', 'v_proj'], rank = 4, ranks = {}, layers, seed = 1, dtype = 'F32' } = options;
  const random = seededRandom(seed);
  const tensors: Record<string, TensorData> = {};
  for (const [module, [outputs, inputs]] of modulesOf(config)) {
    const isMeant = targets.some((target) => module.endsWith(`.${target}`));
    if (!isMeant || layers?.includes(Number(module.split('.')[2])) === false) continue;
    const r = ranks[module] ?? rank;
    const matrix = (rows: number, columns: number, deviation: number): TensorData => {
      return { dtype, shape: [rows, columns], data: normals(rows * columns, random, 0, deviation) };
    };
    tensors[`base_model.model.${module}.lora_A.weight`] = matrix(r, inputs, 1 / Math.sqrt(inputs));
    tensors[`base_model.model.${module}.lora_B.weight`] = matrix(outputs, r, 0.25 / Math.sqrt(r));
  }
  return tensors;
}

/** Writes a PEFT folder, made if it is not there. */
export async function writeAdapter(
  folder: string,
  config: LlamaConfig,
  options: AdapterOptions = {},
  tensors: Readonly<Record<string, TensorData>> = adapterTensors(config, options),
): Promise<void> {
  const { targets = ['q_proj', 'v_proj'], rank = 4, alpha = 8, ranks = {}, fields } = options;
  const json = { ...adapterConfig('a-model', { rank, alpha, targets }), rank_pattern: ranks, ...fields };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'adapter_config.json'), JSON.stringify(json));
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
}
