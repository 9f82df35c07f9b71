/**
 * Folders of random weights in the exact layouts that models are published in, of any size: the one home of random
 * models on disk, for tests, benchmarks and peers. `npm run make-model` is its command line.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import { lookUp } from './catalogue.ts';
import { type HuggingFaceConfig, jsonText, storedDType, torchDTypes } from './config.ts';
import { awq } from './formats/awq.ts';
import { compressedFp8, compressedInt8 } from './formats/compressed.ts';
import type { QuantisedFormat } from './formats/format.ts';
import { gptq } from './formats/gptq.ts';
import { adapterConfig, adapterTensors, type LoraOptions } from './lora.ts';
import { type PlannedTensor, splitIntoShards, writeSafetensors, writeWeights } from './safetensors.ts';
import { moveTokenIds, scaleConfig } from './scale.ts';
import { type ModelTensor, projectionsOf, tensorsOf } from './tensors.ts';
import {
  firstOf,
  type MakeTokenizer,
  sentencePieceTokenizer,
  smallestVocabularies,
  trainedTokenizer,
} from './tokenizer-files.ts';
import { distributionOf, type RandomTensor, randomTensor } from './weights.ts';

/** Formats of fewer bits; each is told the inputs of all projections. */
export const quantisedFormats = {
  gptq,
  awq,
  'compressed-int8': compressedInt8,
  'compressed-fp8': compressedFp8,
} as const satisfies Record<string, (inputs: readonly number[]) => QuantisedFormat>;
export type QuantisedFormatName = keyof typeof quantisedFormats;

const ownTokenizers = firstOf(sentencePieceTokenizer(), trainedTokenizer);

export interface WeightOptions {
  /** 1 by default. The same seed gives the same bytes; a tensor's numbers follow from it and the tensor's name alone. */
  readonly seed?: number;
  /** What `torch_dtype` of the configuration says by default. */
  readonly dtype?: FloatDType;
}

export interface FolderOptions extends WeightOptions {
  /** 1, the default, writes `model.safetensors`; more write that many shards and their index. */
  readonly shards?: number;
  readonly quantised?: QuantisedFormatName;
  /** Whether tied embeddings are repeated as `lm_head.weight`. */
  readonly storesTiedHead?: boolean;
  /** Is told of the bytes of each chunk that is about to be written. */
  readonly progress?: (bytes: number) => void;
}

export interface ModelOptions extends Omit<FolderOptions, 'storesTiedHead'> {
  /** A name of the catalogue. */
  readonly like: string;
  /** Above 0 and at most 1, the default; `scaleConfig` tells the rule. */
  readonly scale?: number;
  /** Fields of config.json that are to be other than published. */
  readonly changes?: Readonly<Record<string, unknown>>;
  /** By default the embedded model's `tokenizer.model`, or a trained `tokenizer.json`, as the model's kind is. */
  readonly makeTokenizer?: MakeTokenizer;
  /** Text of the chat template in `tokenizer_config.json`; by default one of this project's own of the shape of the model's. */
  readonly chatTemplate?: string;
}

/** What was written. */
export interface MadeFolder {
  readonly folder: string;
  /** Sizes in bytes by name. */
  readonly files: ReadonlyMap<string, number>;
  /** Whether tokenizer files are among them. */
  readonly hasTokenizer: boolean;
}

/**
 * Writes a model folder like a published one. Files of the same names are replaced, others left.
 *
 * @throws RangeError for what the options cannot mean, before anything is written; TokenizerError for a tokenizer that
 *   cannot be read
 */
export async function makeModel(folder: string, options: ModelOptions): Promise<MadeFolder> {
  const { like, scale = 1, changes, makeTokenizer = ownTokenizers, ...rest } = options;
  const { config: published, tokenizer, shards, storesTiedHead = false, template, ...others } = lookUp(like);
  const chatTemplate = options.chatTemplate ?? (template && (await readFile(templateFile(template), 'utf8')));
  const config = { ...scaleConfig(published, scale, smallestVocabularies[tokenizer]), ...changes };
  const generation = moveTokenIds(others.generationConfig, published.vocab_size, config.vocab_size);

  const files = new Map(await writeModelFolder(folder, config, { shards, storesTiedHead, ...rest }));
  const add = async (name: string, content: string | Uint8Array) => {
    await writeFile(join(folder, name), content);
    files.set(name, Buffer.byteLength(content));
  };
  await add('generation_config.json', jsonText(generation));
  const maxLength = config.max_position_embeddings as number;
  const made = await makeTokenizer({ kind: tokenizer, vocabularySize: config.vocab_size, maxLength });
  for (const [name, content] of made ?? []) await add(name, content);
  if (chatTemplate !== undefined) {
    const name = 'tokenizer_config.json';
    const own = made?.get(name) ?? '{}';
    await add(name, jsonText({ ...JSON.parse(own.toString()), chat_template: chatTemplate }));
  }
  return { folder, files, hasTokenizer: made !== undefined };
}

/**
 * Writes `config.json` and its weights alone, for a configuration of any size.
 *
 * @returns the files' sizes in bytes by name
 * @throws RangeError for what the options cannot mean, before anything is written
 */
export async function writeModelFolder(
  folder: string,
  config: HuggingFaceConfig,
  { shards = 1, progress, ...options }: FolderOptions = {},
): Promise<ReadonlyMap<string, number>> {
  const format = formatFor(config, options);
  const tensors = planTensors(config, options, format);
  const dtype = dtypeFor(config, options, format);
  const json: Record<string, unknown> = {
    'config.json': {
      ...config,
      torch_dtype: torchDTypes[dtype],
      ...(format ? { quantization_config: format.config } : {}),
    },
    ...format?.files,
  };
  const groups = splitIntoShards(tensors, shards);
  await mkdir(folder, { recursive: true });
  const files = await writeWeights(folder, groups, progress);
  for (const [name, value] of Object.entries(json)) {
    const text = jsonText(value);
    await writeFile(join(folder, name), text);
    files.set(name, Buffer.byteLength(text));
  }
  return files;
}

/** The weights of `writeModelFolder` in memory, as numbers that were rounded to the dtype: for small models. */
export function modelWeights(config: HuggingFaceConfig, options: WeightOptions = {}): Map<string, Float32Array> {
  return new Map(
    tensorsOf(config).map((tensor) => {
      const values = new Float32Array(tensor.shape.reduce((product, size) => product * size, 1));
      numbersOf(tensor, options.seed, dtypeFor(config, options)).read(values, 0);
      return [tensor.name, values];
    }),
  );
}

const templateFile = (name: string) => new URL(`./templates/${name}.jinja`, import.meta.url);

export interface AdapterOptions {
  readonly like: string;
  readonly scale?: number;
  readonly seed?: number;
  readonly lora: LoraOptions;
}

/**
 * Writes a PEFT adapter for a model of the catalogue: `adapter_config.json` and `adapter_model.safetensors`.
 * @throws RangeError for what the options cannot mean, before anything is written
 */
export async function makeAdapter(
  folder: string,
  { like, scale = 1, seed = 1, lora }: AdapterOptions,
): Promise<MadeFolder> {
  const { config: published, origin, tokenizer } = lookUp(like);
  const config = scaleConfig(published, scale, smallestVocabularies[tokenizer]);
  const tensors = adapterTensors(config, lora, seed);
  const text = jsonText(adapterConfig(origin, lora));
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'adapter_config.json'), text);
  const bytes = await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
  const files = new Map([
    ['adapter_config.json', Buffer.byteLength(text)],
    ['adapter_model.safetensors', bytes],
  ]);
  return { folder, files, hasTokenizer: false };
}

type PlanOptions = Pick<FolderOptions, 'seed' | 'dtype' | 'quantised' | 'storesTiedHead'>;

function formatFor(config: HuggingFaceConfig, { quantised }: PlanOptions): QuantisedFormat | undefined {
  const inputs = Object.values(projectionsOf(config)).map(([, width]) => width);
  return quantised && quantisedFormats[quantised](inputs);
}

function dtypeFor(config: HuggingFaceConfig, { dtype }: WeightOptions, format?: QuantisedFormat): FloatDType {
  if (format && (dtype ?? format.otherDType) !== format.otherDType) {
    throw new RangeError(`This quantised format stores other tensors as ${format.otherDType}, not ${dtype}.`);
  }
  return format?.otherDType ?? dtype ?? storedDType(config);
}

/** The numbers of a tensor; those of rows are scaled by their width. */
const numbersOf = ({ name, shape, role }: ModelTensor, seed = 1, dtype: FloatDType): RandomTensor =>
  randomTensor(name, seed, distributionOf(role, shape.at(-1)!), dtype);

function planTensors(config: HuggingFaceConfig, options: PlanOptions, format?: QuantisedFormat): PlannedTensor[] {
  const dtype = dtypeFor(config, options, format);
  const planned = tensorsOf(config).flatMap((tensor): PlannedTensor[] => {
    const { name, shape } = tensor;
    const [rows = 1, columns = 1] = shape;
    const numbers = numbersOf(tensor, options.seed, dtype);
    if (format && /_proj\.weight$/.test(name)) {
      return format.tensors(name.slice(0, -'.weight'.length), { outputs: rows, inputs: columns, read: numbers.read });
    }
    return [{ name, dtype, shape, fillRows: (target, row) => numbers.store(target, row * columns) }];
  });
  if (!options.storesTiedHead) return planned;
  const embedding = planned.find(({ name }) => name === 'model.embed_tokens.weight')!;
  return [...planned, { ...embedding, name: 'lm_head.weight' }];
}
