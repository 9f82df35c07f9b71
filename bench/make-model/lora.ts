import type { HuggingFaceConfig } from './config.ts';
import type { PlannedTensor } from './safetensors.ts';
import { projectionsOf } from './tensors.ts';
import { type Distribution, randomTensor } from './weights.ts';

/** A low-rank adapter: `W + scale * B A`, with scale `alpha / rank`, or `alpha / sqrt(rank)` where `rslora`. */
export interface LoraOptions {
  readonly rank: number;
  readonly alpha: number;
  /** Names of projections: `q_proj`, `down_proj` and so on. */
  readonly targets: readonly string[];
  /** Rank-stabilised (arXiv 2312.03732). */
  readonly rslora?: boolean;
}

/**
 * Reads `rank=8,alpha=16,targets=q_proj+v_proj[,rslora]`.
 * @throws RangeError for anything else
 */
export function parseLoraOptions(text: string): LoraOptions {
  const found = /^rank=(?<rank>\d+),alpha=(?<alpha>\d+(\.\d+)?),targets=(?<targets>[a-z_+]+)(?<rslora>,rslora)?$/.exec(
    text,
  );
  const { rank, alpha, targets = '', rslora } = found?.groups ?? {};
  if (!found)
    throw new RangeError(`An adapter must look like rank=8,alpha=16,targets=q_proj+v_proj[,rslora], not ${text}.`);
  return { rank: Number(rank), alpha: Number(alpha), targets: targets.split('+'), rslora: rslora !== undefined };
}

/** `adapter_config.json` as PEFT writes it (peft/tuners/lora/config.py). */
export const adapterConfig = (base: string, { rank, alpha, targets, rslora = false }: LoraOptions) => ({
  alpha_pattern: {},
  auto_mapping: null,
  base_model_name_or_path: base,
  bias: 'none',
  fan_in_fan_out: false,
  inference_mode: true,
  init_lora_weights: true,
  layer_replication: null,
  layers_pattern: null,
  layers_to_transform: null,
  loftq_config: {},
  lora_alpha: alpha,
  lora_dropout: 0,
  megatron_config: null,
  megatron_core: 'megatron.core',
  modules_to_save: null,
  peft_type: 'LORA',
  r: rank,
  rank_pattern: {},
  revision: null,
  target_modules: targets,
  task_type: 'CAUSAL_LM',
  use_dora: false,
  use_rslora: rslora,
});

/**
 * The tensors of `adapter_model.safetensors`, F32 as PEFT trains them: `lora_A` (rank, inputs), `lora_B` (outputs,
 * rank). `B A` is a quarter of a projection's own scale, so that an adapter that is left out shows.
 *
 * @throws RangeError for a rank that is no whole number above 0, and a target that is no projection
 */
export function adapterTensors(
  config: HuggingFaceConfig,
  { rank, targets }: LoraOptions,
  seed: number,
): PlannedTensor[] {
  if (!(Number.isInteger(rank) && rank > 0))
    throw new RangeError(`A rank must be a whole number above 0, not ${rank}.`);
  const projections = Object.entries(projectionsOf(config)).map(([module, shape]) => ({
    module,
    shape,
    target: module.slice(module.indexOf('.') + 1),
  }));
  const known = projections.map(({ target }) => target);
  const unknown = targets.find((target) => !known.includes(target));
  if (unknown !== undefined || targets.length === 0) {
    throw new RangeError(`Targets must be among ${known.join(', ')}, but are '${targets.join(', ')}'.`);
  }
  const tensor = (name: string, shape: readonly [number, number], deviation: number): PlannedTensor => {
    const distribution: Distribution = { mean: 0, deviation };
    const numbers = randomTensor(name, seed, distribution, 'F32');
    return { name, dtype: 'F32', shape, fillRows: (target, row) => numbers.store(target, row * shape[1]) };
  };
  return Array.from({ length: config.num_hidden_layers }, (_, layer) => layer).flatMap((layer) =>
    projections
      .filter(({ target }) => targets.includes(target))
      .flatMap(({ module, shape: [outputs, inputs] }) => {
        const prefix = `base_model.model.model.layers.${layer}.${module}`;
        return [
          tensor(`${prefix}.lora_A.weight`, [rank, inputs], 1 / Math.sqrt(inputs)),
          tensor(`${prefix}.lora_B.weight`, [outputs, rank], 0.25 / Math.sqrt(rank)),
        ];
      }),
  );
}
