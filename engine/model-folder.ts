import { isObject, quote } from '../kernels/json.ts';
import type { ArchitectureName } from './architectures.ts';
import { architectureOf, type LlamaConfig, parseLlamaConfig } from './config.ts';
import { ModelError } from './errors.ts';
import {
  closeAll,
  type Folder,
  type FolderFile,
  listFiles,
  maxConfigBytes,
  notFound,
  openFiles,
  readJson,
  reasonOf,
} from './folder.ts';
import { checkTensors } from './safetensors/check.ts';
import type { FloatDType } from './safetensors/convert.ts';
import { type ByteFile, SafetensorsSource, type TensorSource } from './safetensors/source.ts';

/** A Hugging Face model folder whose configuration and weights were found to fit each other. Disposing it closes its files. */
export interface ModelFolder extends AsyncDisposable {
  readonly folder: Folder;
  readonly architecture: ArchitectureName;
  readonly config: LlamaConfig;
  readonly source: TensorSource;
  /** Every file of the folder, those that the engine does not read too, by name; none where it cannot be listed. */
  readonly files: readonly FolderFile[];
  /** The dtypes that the model's weights are stored in, widest first. */
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
    pattern: /^consolidated\..*\.pth$/,
    advice: 'These are the weights as Meta first released them. Take the "-hf" edition of the model.',
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
 * @throws ModelError `model-not-found` where something is not there or no JSON, with what to do about it;
 *   `config-invalid`, `architecture-unsupported`, `safetensors-invalid`, `tensor-missing`, `tensor-mismatch` or
 *   `dtype-unsupported` where it is there but cannot be used
 */
export async function openModel(folder: Folder): Promise<ModelFolder> {
  const files = await listFiles(folder, `a model folder must hold ${configName} and ${singleName}`);
  const json = await readConfig(folder, files);
  const configPath = folder.locate(configName);
  const architecture = architectureOf(json, configPath);
  const config = parseLlamaConfig(json, configPath);
  const source = await openWeights(folder, files);
  try {
    const storedDTypes = checkTensors(config, source.tensors);
    const dispose = () => source[Symbol.asyncDispose]();
    return { folder, architecture, config, source, files, storedDTypes, [Symbol.asyncDispose]: dispose };
  } catch (error) {
    await source[Symbol.asyncDispose]();
    throw error;
  }
}

async function readConfig(folder: Folder, files: readonly FolderFile[]): Promise<unknown> {
  const json = await readJson(folder, configName, maxConfigBytes).catch((cause) => {
    throw notFound(`${folder.locate(configName)}: ${reasonOf(cause)}. Download it again.`, { cause });
  });
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
