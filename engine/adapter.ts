import { quote } from '../kernels/json.ts';
import { type AdapterConfig, isCalled } from './adapter-config.ts';
import { expectedTensors, type LlamaConfig } from './config.ts';
import { ModelError } from './errors.ts';
import { decodeToF32, type FloatDType, floatDTypes } from './safetensors/convert.ts';
import type { TensorSource } from './safetensors/source.ts';

/** What an adapter adds to one matrix W, (outputs, inputs): `scale * B A` (Hu et al., arXiv 2106.09685, section 4.1). */
export interface LowRankUpdate {
  /** The name of A, (rank, inputs), in the adapter's file. */
  readonly a: string;
  /** The name of B, (outputs, rank). */
  readonly b: string;
  readonly rank: number;
  readonly scale: number;
}

/** A low-rank adapter that was found to fit a model. */
export interface Adapter {
  /** By the name of the matrix in the model's checkpoint. */
  readonly updates: ReadonlyMap<string, LowRankUpdate>;
  readonly source: TensorSource;
  /** The model that it was trained on, as it was called there. */
  readonly base: string | undefined;
  /** The dtypes that its matrices are stored in, widest first. */
  readonly storedDTypes: readonly FloatDType[];
}

/** What messages call the files of an adapter. */
export interface AdapterFiles {
  readonly config: string;
  readonly weights: string;
}

/** A projection of a decoder layer; what else a checkpoint has cannot be adapted. */
const projection = /^model\.layers\.\d+\.(?:self_attn|mlp)\.\w+_proj\.weight$/;

const published = /^base_model\.model\.(?<module>.+)\.lora_(?<letter>[AB])\.weight$/;

/**
 * Matches the tensors of an adapter with the matrices of the model that it is to change. The tensors say which those
 * are; where `target_modules` lists names the two have to agree, and a pattern there is not looked at.
 *
 * @throws ModelError `adapter-unsupported` for tensors that are more than low-rank matrices of projections;
 *   `tensor-missing` where some are not there; `tensor-mismatch` where it is an adapter for another model;
 *   `dtype-unsupported`. All name the file and the tensor or field.
 */
export function adapterOf(
  config: AdapterConfig,
  source: TensorSource,
  model: LlamaConfig,
  files: AdapterFiles,
): Adapter {
  const shapes = expectedTensors(model);
  const fail = (code: ModelError['code'], file: keyof AdapterFiles, message: string) =>
    new ModelError(code, `${files[file]}: ${message}`);
  const origin = config.base === undefined ? '' : ` It was trained on ${quote(config.base)}.`;

  const modules = new Set<string>();
  for (const { name, dtype } of source.tensors.values()) {
    const { module } = published.exec(name)?.groups ?? {};
    if (module === undefined || /^(?:lm_head|.*embed_tokens)$/.test(module)) {
      throw fail(
        'adapter-unsupported',
        'weights',
        `tensor ${quote(name)} is no low-rank matrix of a projection as PEFT names them ` +
          '("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"): biases, embeddings, heads and whole ' +
          'modules are not supported. Merge the adapter with PEFT (merge_and_unload) and load the result.',
      );
    }
    if (!projection.test(`${module}.weight`) || !shapes.has(`${module}.weight`)) {
      throw fail(
        'tensor-mismatch',
        'weights',
        `tensor ${quote(name)} must be for a projection of this model's ${model.numHiddenLayers} layers, but is for ` +
          `${module}. Is it an adapter for another model?${origin}`,
      );
    }
    if (!(floatDTypes as readonly string[]).includes(dtype)) {
      throw fail(
        'dtype-unsupported',
        'weights',
        `tensor ${quote(name)} is stored as ${dtype}, but only ${floatDTypes.join(', ')} can be read.`,
      );
    }
    modules.add(module);
  }
  if (modules.size === 0)
    throw fail('tensor-missing', 'weights', 'an adapter must hold low-rank matrices, but has none.');

  const updates = new Map<string, LowRankUpdate>();
  for (const module of modules) {
    const matrix = `${module}.weight`;
    const [outputs, inputs] = shapes.get(matrix) as [number, number];
    const rank = config.rankOf(module);
    const nameOf = (letter: 'A' | 'B', shape: readonly [number, number]) => {
      const name = `base_model.model.${module}.lora_${letter}.weight`;
      const tensor = source.tensors.get(name);
      if (!tensor)
        throw fail('tensor-missing', 'weights', `tensor ${quote(name)} is not there, but its other half is.`);
      if (tensor.shape.join() !== shape.join()) {
        throw fail(
          'tensor-mismatch',
          'weights',
          `tensor ${quote(name)} must have shape ${quote(shape)}, for rank ${rank} by ${files.config} and this model, ` +
            `but has ${quote(tensor.shape)}. Is it an adapter for another model?${origin}`,
        );
      }
      return name;
    };
    const [a, b] = [nameOf('A', [rank, inputs]), nameOf('B', [outputs, rank])];
    updates.set(matrix, { a, b, rank, scale: config.scaleOf(module) });
  }
  assertTargets(config, modules, shapes, fail);
  const stored = new Set([...source.tensors.values()].map(({ dtype }) => dtype));
  const storedDTypes = floatDTypes.filter((dtype) => stored.has(dtype));
  return { updates, source, base: config.base, storedDTypes };
}

/** Holds what `target_modules` names and what is there side by side. */
function assertTargets(
  { targets, leavesOut }: AdapterConfig,
  modules: ReadonlySet<string>,
  shapes: ReadonlyMap<string, unknown>,
  fail: (code: ModelError['code'], file: keyof AdapterFiles, message: string) => ModelError,
): void {
  if (!targets) return;
  const uncalled = [...modules].find((module) => !targets.some((name) => isCalled(module, name)));
  if (uncalled !== undefined) {
    throw fail(
      'config-invalid',
      'config',
      `'target_modules' must name every adapted module, but is ${quote(targets)}, and there are matrices for ${uncalled}.`,
    );
  }
  if (leavesOut) return;
  const projections = [...shapes.keys()].filter((name) => projection.test(name)).map((name) => name.slice(0, -7));
  const empty = targets.find(
    (name) =>
      projections.some((module) => isCalled(module, name)) && ![...modules].some((module) => isCalled(module, name)),
  );
  if (empty !== undefined) {
    throw fail(
      'tensor-missing',
      'weights',
      `'target_modules' names ${quote(empty)}, but there are no matrices for it.`,
    );
  }
}

/** The matrices of an update in f32: A, (rank, inputs), and `scale * B`, (outputs, rank). Both are small. */
export async function readUpdate(
  { source }: Adapter,
  { a, b, scale }: LowRankUpdate,
  signal?: AbortSignal,
): Promise<{ readonly a: Float32Array; readonly b: Float32Array }> {
  const read = async (name: string) => {
    const { dtype, shape } = source.tensors.get(name)!;
    const values = new Float32Array(shape.reduce((count, size) => count * size, 1));
    let at = 0;
    for await (const chunk of source.read(name, signal ? { signal } : {})) {
      at += decodeToF32(chunk, dtype as FloatDType, values.subarray(at)).length;
    }
    return values;
  };
  const [down, up] = [await read(a), await read(b)];
  return { a: down, b: up.map((value) => scale * value) };
}
