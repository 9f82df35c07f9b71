import { isObject, quote } from '../kernels/json.ts';
import type { ArchitectureName } from './architectures.ts';
import { architectureOf, type LlamaConfig, readLlamaConfig } from './config.ts';
import { ModelError, reasonOf } from './errors.ts';
import { type Folder, type FolderFile, listFiles, notFound, openFiles, readConfig, readJson } from './folder.ts';
import { Problems } from './problems.ts';
import type { QuantisedBuild } from './quantised/build.ts';
import { checkWeights } from './quantised/check.ts';
import { quantisedBuildOf } from './quantised/config.ts';
import type { FloatDType } from './safetensors/convert.ts';
import { type ByteFile, closeAll, SafetensorsSource, type TensorSource } from './safetensors/source.ts';

/** A Hugging Face model folder whose configuration and weights were found to fit each other. Disposing it closes its files. */
export interface ModelFolder extends AsyncDisposable {
  readonly folder: Folder;
  readonly architecture: ArchitectureName;
  readonly config: LlamaConfig;
  readonly source: TensorSource;
  /** The tensors as the files hold them; `source` itself where nothing is quantised. */
  readonly stored: TensorSource;
  /** How the checkpoint holds its matrices, where that is in fewer bits. */
  readonly quantised?: Pick<QuantisedBuild, 'name' | 'dtype'>;
  /** Every file of the folder, those that the engine does not read too, by name; none where it cannot be listed. */
  readonly files: readonly FolderFile[];
  /** The dtypes that the model's weights are stored in, widest first; of a quantised checkpoint those that it keeps whole. */
  readonly storedDTypes: readonly FloatDType[];
}

const configName = 'config.json';
const singleName = 'model.safetensors';
const indexName = 'model.safetensors.index.json';
const maxIndexBytes = 64 * 1024 * 1024;

/** Weights in forms that are not read, and how to get to safetensors from there. */
const otherForms: readonly { readonly pattern: RegExp; readonly advice: string }[] = [
  {
    pattern: /^pytorch_model.*\.bin$/,
    advice:
      'PyTorch pickles are not read, since loading one runs code. Convert with transformers: ' +
      '`AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(DIR)`.',
  },
  {
    pattern: /^(?:params\.json|consolidated\..*)$/,
    advice:
      'This is the layout in which Meta and Mistral release weights first. Where it is the folder "original" of a Hugging Face ' +
      'model, give the folder above; else take the "-hf" edition, or convert it with transformers: `python -m ' +
      'transformers.models.llama.convert_llama_weights_to_hf --input_dir DIR --model_size 8B --llama_version 3.1 --output_dir OUT`.',
  },
  {
    pattern: /^adapter_(?:config\.json|model\.)/,
    advice: 'This is an adapter: give the model that it was trained on, and this folder as an adapter of it.',
  },
  { pattern: /\.gguf$/, advice: 'GGUF is not read. Take the Hugging Face folder that it was made from.' },
];

/**
 * Opens a Hugging Face model folder: `config.json` with `model.safetensors`, or with the shards that
 * `model.safetensors.index.json` names. Reads the headers alone; the weights stream from `source` later.
 *
 * A model folder may come from a stranger: shards are taken from the folder itself and nowhere else.
 *
 * @throws ModelError `model-not-found` where something is not there, with what to do about it;
 *   `config-invalid`, `architecture-unsupported`, `safetensors-invalid`, `tensor-missing`, `tensor-mismatch` or
 *   `dtype-unsupported` where it is there but cannot be used
 */
export async function openModel(folder: Folder): Promise<ModelFolder> {
  const problems = new Problems();
  const examined = await examineModel(folder, problems);
  const [first] = problems.errors;
  if (!first) return examined as ModelFolder;
  await examined[Symbol.asyncDispose]();
  throw first;
}

/** A model folder as far as it could be read: all of `ModelFolder` where no problem was met. */
export type ExaminedFolder = Partial<ModelFolder> & Pick<ModelFolder, 'folder' | 'files'> & AsyncDisposable;

/**
 * As `openModel`, but goes on behind what is wrong.
 * @param problems where all of it is noted
 */
export async function examineModel(folder: Folder, problems: Problems): Promise<ExaminedFolder> {
  const none = { folder, files: [], [Symbol.asyncDispose]: async () => {} };
  const wanted = `a model folder must hold ${configName} and ${singleName}`;
  const files = await problems.attemptAsync(() => listFiles(folder, wanted));
  if (!files) return none;
  const json = await problems.attemptAsync(() => configIn(folder, files));
  // In a folder of something else one thing is wrong: that it is one.
  const isOther = !files.some(({ name }) => name === configName) && adviceOnOtherForms(files) !== undefined;
  if (isOther) return { ...none, files };
  const configPath = folder.locate(configName);
  const config = json === undefined ? undefined : readLlamaConfig(json, configPath, problems);
  const stored = await problems.attemptAsync(() => openWeights(folder, files));
  const examined = { folder, files, [Symbol.asyncDispose]: async () => stored?.[Symbol.asyncDispose]() };
  if (!config) return examined;
  const architecture = architectureOf(json, configPath);
  const build = quantisedBuildOf(json, configPath);
  const weights = stored ? { stored, ...checkWeights(config, build, stored, problems) } : {};
  return { ...examined, architecture, config, ...weights };
}

async function configIn(folder: Folder, files: readonly FolderFile[]): Promise<unknown> {
  const json = await readConfig(folder, configName);
  if (json !== undefined) return json;
  const advice = adviceOnOtherForms(files) ?? 'Give the folder that the model was downloaded to.';
  throw notFound(`${folder.location}: a model folder must hold ${configName}, but this one has none. ${advice}`);
}

/** Opens the single weights file, which wins where both are there as it does in transformers, or the shards. */
async function openWeights(folder: Folder, files: readonly FolderFile[]): Promise<SafetensorsSource> {
  const [single] = await openFiles(folder, [singleName]);
  if (single) return SafetensorsSource.open([single]);
  const weightMap = await readWeightMap(folder);
  if (!weightMap) {
    const advice = adviceOnOtherForms(files) ?? 'Download the weights too.';
    throw notFound(
      `${folder.location}: a model folder must hold ${singleName} or ${indexName}, but has neither. ${advice}`,
    );
  }
  const source = await SafetensorsSource.open(await openShards(folder, [...new Set(weightMap.values())]));
  for (const [tensor, shard] of weightMap) {
    const actual = source.fileOf(tensor);
    if (actual === folder.locate(shard)) continue;
    await source[Symbol.asyncDispose]();
    throw new ModelError(
      'safetensors-invalid',
      `${folder.locate(indexName)}: tensor ${quote(tensor)} must be in ${shard}, but is ${actual ? `in ${actual}` : 'not there'}.`,
    );
  }
  return source;
}

async function openShards(folder: Folder, names: readonly string[]): Promise<ByteFile[]> {
  const found = await openFiles(folder, names);
  const shards = found.filter((file) => file !== undefined);
  if (shards.length === names.length) return shards;
  await closeAll(shards);
  throw notFound(
    `${folder.location}: ${indexName} names ${names.length} shards, but ${names.length - shards.length} of them are ` +
      `not there, ${quote(names[found.indexOf(undefined)])} first. Download them again.`,
  );
}

/** The shard of each tensor; undefined where there is no index. */
async function readWeightMap(folder: Folder): Promise<Map<string, string> | undefined> {
  const invalid = (message: string, options?: ErrorOptions) =>
    new ModelError('safetensors-invalid', `${folder.locate(indexName)}: ${message}.`, options);
  const index = await readJson(folder, indexName, maxIndexBytes).catch((cause) => {
    throw invalid(reasonOf(cause), { cause });
  });
  if (index === undefined) return undefined;
  const weightMap = isObject(index) ? index.weight_map : undefined;
  if (!isObject(weightMap)) throw invalid(`'weight_map' must be an object, but is ${quote(weightMap)}`);
  const shards = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(weightMap)) {
    // Separators of any system, `..` and drive letters would lead out of the folder.
    if (typeof shard !== 'string' || !/^[^/\\:\0]+\.safetensors$/.test(shard)) {
      throw invalid(`tensor ${quote(tensor)} must be in a .safetensors file of this folder, but is in ${quote(shard)}`);
    }
    shards.set(tensor, shard);
  }
  return shards;
}

function adviceOnOtherForms(files: readonly FolderFile[]): string | undefined {
  const names = files.map(({ name }) => name);
  for (const { pattern, advice } of otherForms) {
    const found = names.find((name) => pattern.test(name));
    if (found) return `It has ${quote(found)}. ${advice}`;
  }
  const stray = names.find((name) => name.endsWith('.safetensors') && name !== singleName);
  return stray && `It has ${quote(stray)}: a single file must be called ${singleName}, shards need ${indexName}.`;
}
