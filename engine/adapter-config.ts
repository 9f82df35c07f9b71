import { z } from 'zod';
import { quote } from '../kernels/json.ts';
import { flag, positive, text, validate, whole } from './config-fields.ts';
import { ModelError } from './errors.ts';

/** What `adapter_config.json` of a PEFT folder says of its low-rank matrices. Modules go by their names in the model. */
export interface AdapterConfig {
  /** The model that it was trained on, as it was called there. */
  readonly base: string | undefined;
  /** Names of modules, or their ends, that are adapted; undefined where a pattern says which. */
  readonly targets: readonly string[] | undefined;
  /** Whether some of those are left out. */
  readonly leavesOut: boolean;
  /** The rank of a module's matrices. */
  rankOf(module: string): number;
  /** What the product of a module's matrices is multiplied by. */
  scaleOf(module: string): number;
}

/** Every linear layer of a decoder layer: what PEFT understands by `all-linear`. */
const allLinear = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'] as const;

/** Fields that ask for more than `W + scale * B A`, unless they are null, false or empty, and what they ask for. */
const beyondLowRank = {
  use_dora: 'DoRA, which also changes the length of rows,',
  modules_to_save: 'replacing whole modules',
  lora_bias: 'a bias of its own',
  fan_in_fan_out: 'transposed weights',
  layer_replication: 'repeating layers',
  target_parameters: 'adapting parameters that are no linear layers',
  trainable_token_indices: 'new embeddings of tokens',
  alora_invocation_tokens: 'switching on within a text (aLoRA)',
  arrow_config: 'choosing among adapters (Arrow)',
  use_qalora: 'QA-LoRA',
  use_bdlora: 'BD-LoRA',
  kasa_config: 'KaSA',
  monteclora_config: 'MonteCLoRA',
  velora_config: 'VeLoRA',
} as const;

/** Ways to begin training that leave the base as it is; others take a part of it away, which the folder does not tell. */
const harmlessBeginnings: readonly unknown[] = [true, false, 'gaussian', 'eva', 'orthogonal', 'mica'];

const amount = positive(2 ** 20);
const rank = whole(1, 4096);
const byModule = <Value extends z.ZodType>(value: Value) =>
  z.record(z.string(), value, { error: 'must be an object' }).nullish();
const names = z.array(text, { error: 'must be a list of strings or one string' });

const schema = z.object(
  {
    peft_type: text,
    task_type: text.nullish(),
    base_model_name_or_path: text.nullish(),
    r: rank,
    lora_alpha: amount,
    use_rslora: flag.nullish(),
    rank_pattern: byModule(rank),
    alpha_pattern: byModule(amount),
    target_modules: z.union([text, names], { error: 'must be a list of strings or one string' }).nullish(),
    exclude_modules: z.unknown().optional(),
    bias: text.nullish(),
    init_lora_weights: z.unknown().optional(),
    ...Object.fromEntries(Object.keys(beyondLowRank).map((field) => [field, z.unknown().optional()])),
  },
  { error: 'must be a JSON object' },
);

/**
 * Reads the `adapter_config.json` of a PEFT adapter (read beside the sources of PEFT 0.21). Absent fields are as there,
 * except rank and alpha, which have to be there.
 *
 * @param json what a parser made of the file
 * @param source what messages call the file
 * @throws ModelError `adapter-unsupported` for an adapter that is well-formed but more than low-rank matrices;
 *   `config-invalid` for what is not well-formed. Both name the file and the field.
 */
export function parseAdapterConfig(json: unknown, source: string): AdapterConfig {
  const fields = validate(schema, json, source);
  assertLowRank(fields, source);
  const ranks = patternOf('rank_pattern', fields.rank_pattern, source);
  const alphas = patternOf('alpha_pattern', fields.alpha_pattern, source);
  const { target_modules: given } = fields;
  const rankOf = (module: string) => ranks(module) ?? fields.r;
  return {
    base: fields.base_model_name_or_path ?? undefined,
    targets: given === 'all-linear' ? allLinear : Array.isArray(given) ? given : undefined,
    leavesOut: isAskedFor(fields.exclude_modules),
    rankOf,
    scaleOf: (module) => {
      const alpha = alphas(module) ?? fields.lora_alpha;
      // Rank-stabilised: Kalajdzievski, arXiv 2312.03732.
      return alpha / (fields.use_rslora ? Math.sqrt(rankOf(module)) : rankOf(module));
    },
  };
}

/** Whether a module is what `target_modules` calls by a name: its own, or the end of it from a dot on. */
export const isCalled = (module: string, name: string): boolean => module === name || module.endsWith(`.${name}`);

const isAskedFor = (value: unknown): boolean =>
  typeof value === 'object' && value !== null ? Object.keys(value).length > 0 : Boolean(value);

function assertLowRank(fields: z.infer<typeof schema> & Readonly<Record<string, unknown>>, source: string): void {
  const { peft_type: kind, task_type: task, bias, init_lora_weights: beginning } = fields;
  const unsupported = (message: string) => new ModelError('adapter-unsupported', `${source}: ${message}`);
  if (kind !== 'LORA') {
    throw unsupported(
      `'peft_type' must be LORA, but is ${quote(kind)}. Merge the adapter with PEFT and load the result.`,
    );
  }
  if ((task ?? 'CAUSAL_LM') !== 'CAUSAL_LM') {
    throw unsupported(`'task_type' must be CAUSAL_LM, of a model that writes text, but is ${quote(task)}.`);
  }
  if ((bias ?? 'none') !== 'none') {
    throw unsupported(`'bias' must be 'none': adapters that change biases (${quote(bias)}) are not supported.`);
  }
  for (const [field, what] of Object.entries(beyondLowRank)) {
    if (!isAskedFor(fields[field])) continue;
    throw unsupported(
      `'${field}' is ${quote(fields[field])}, but ${what} is not supported: low-rank matrices alone are. Merge the ` +
        'adapter with PEFT (merge_and_unload) and load the result.',
    );
  }
  if (beginning != null && !harmlessBeginnings.includes(beginning)) {
    throw unsupported(
      `'init_lora_weights' is ${quote(beginning)}, which trains on another base than the published one. Save the ` +
        'adapter with `save_pretrained(DIR, path_initial_model_for_weight_conversion=...)` of PEFT.',
    );
  }
}

/**
 * Values by module. Keys are regular expressions in PEFT, which a stranger's file must not have evaluated, and names of
 * modules, or their ends, in practice: those are understood.
 */
function patternOf(
  field: string,
  values: Readonly<Record<string, number>> | null | undefined,
  source: string,
): (module: string) => number | undefined {
  const entries = Object.entries(values ?? {}).map(([key, value]) => {
    const { anchor, name } = /^(?<anchor>\^?)(?<name>(?:\w|\\?\.)+)\$?$/.exec(key)?.groups ?? {};
    if (name === undefined) {
      throw new ModelError(
        'adapter-unsupported',
        `${source}: '${field}' must go by names of modules, such as q_proj or model.layers.0.self_attn.q_proj, but has ` +
          `the pattern ${quote(key)}. Write the names out.`,
      );
    }
    return { whole: anchor !== '', name: name.replaceAll('\\', ''), value };
  });
  return (module) => entries.find(({ whole, name }) => (whole ? module === name : isCalled(module, name)))?.value;
}
