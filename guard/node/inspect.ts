import type { AdapterFolder } from '../../engine/adapter-folder.ts';
import type { DeviceDecision } from '../../engine/device-choice.ts';
import {
  type Backend,
  type LlamaConfig,
  type MemoryNeeds,
  memoryNeeds,
  mergedSource,
  parameterCount,
  type WeightDType,
} from '../../engine/index.ts';
import { assertFits as assertFitsDevice } from '../../engine/memory-needs.ts';
import { type ExaminedFolder, examineModel } from '../../engine/model-folder.ts';
import { diskFolder, openAdapterFolder } from '../../engine/node/disk-folder.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { Problems } from '../../engine/problems.ts';
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import { weightDTypes } from '../../kernels/contract.ts';
import { assertFits, type Tokenizer } from '../../tokenizer/index.ts';
import { tokenizerIn } from '../../tokenizer/load.ts';
import { answerTokens } from '../answer.ts';
import { folderPolicy, resolveCacheTokens, resolveDType } from '../assemble.ts';
import { chatTemplateOf, folderFormat } from '../folder-format.ts';
import { assertAskable } from '../formats/chat-template.ts';
import type { PromptFormat } from '../formats/index.ts';
import { roles } from '../messages.ts';
import type { LoadOptions } from '../options.ts';
import { assertDistinguishable, type Policy } from '../policy.ts';

/** As `Guard.load` takes them, as far as they matter here. */
export type InspectOptions = Pick<
  LoadOptions,
  'mergedAdapter' | 'promptFormat' | 'dtype' | 'cacheMemory' | 'device' | 'threads'
> & {
  /** Makes the policy of the one that the folder brings along. */
  readonly policy?: (own: Policy) => Policy;
};

/** What is known of a model folder without its weights being read; `null` where it could not be found out. */
export interface Inspection {
  readonly folder: string;
  readonly architecture: string | null;
  readonly config: LlamaConfig | null;
  readonly parameters: number | null;
  /** The dtypes that weights are stored in, widest first, apart from quantised matrices. */
  readonly stored: readonly FloatDType[] | null;
  /** How matrices are quantised; `null` too where they are not. */
  readonly quantised: string | null;
  /** Bytes of all tensors in the files. */
  readonly bytes: number | null;
  /** Tokens. */
  readonly context: number | null;
  /** The kind of the tokenizer, by the file that it was read from. */
  readonly tokenizer: Tokenizer['kind'] | null;
  /** Pieces of the tokenizer. */
  readonly vocabulary: number | null;
  /** The file that the chat template stands in; `null` too where none is used. */
  readonly template: string | null;
  /** The preset: how the model is asked and answers. */
  readonly format: string | null;
  readonly categories: readonly { readonly code: string; readonly name: string }[] | null;
  /** Bytes on a device, by dtype. */
  readonly needs: Readonly<Record<WeightDType, MemoryNeeds>> | null;
  /** The adapter that is to be merged, where one is. */
  readonly adapter?: AdapterInspection;
  /** The dtype that weights would be held in. */
  readonly dtype: WeightDType | null;
  readonly device:
    | (DeviceDecision['device'] & { readonly reason: string; readonly memoryBudget: number | null })
    | null;
  /** Whether the model fits the device; true too where nothing tells its memory. */
  readonly fits: boolean | null;
  /** All that would keep the model from working; each names its file and field. */
  readonly findings: readonly { readonly code: string; readonly message: string }[];
}

/** What there is to tell of an adapter. */
export interface AdapterInspection {
  readonly folder: string;
  /** The model that it was trained on, as it was called there. */
  readonly base: string | null;
  readonly ranks: readonly number[];
  readonly targets: readonly string[];
  /** How many layers it changes. */
  readonly layers: number;
  readonly parameters: number;
  readonly stored: readonly FloatDType[];
  readonly bytes: number;
  /** Bytes that it would take on the device if it were kept apart. */
  readonly apart: number | null;
}

/** Looks a model folder over as `Guard.load` would, but to the end, and without reading weights. */
export async function inspectFolder(folder: string, options: InspectOptions = {}): Promise<Inspection> {
  const problems = new Problems();
  await using model = await examineModel(diskFolder(folder), problems);
  const { config = null } = model;
  await using adapter = await adapterOf(model, options.mergedAdapter, problems);
  // Of a folder of something else, or of none, there is no more to tell.
  const isModel = model.stored !== undefined || model.files.some(({ name }) => name === 'config.json');
  const guard = isModel ? await guardOf(model, options, problems) : nothing;
  const dtype = model.storedDTypes
    ? (problems.attempt(() => resolveDType(options.dtype, model as Known)) ?? null)
    : null;
  const sizes = config ? (problems.attempt(() => resolveCacheTokens(options.cacheMemory, config)) ?? {}) : {};
  const needs = config
    ? (Object.fromEntries(weightDTypes.map((dtype) => [dtype, memoryNeeds(config, { ...sizes, dtype })])) as Record<
        WeightDType,
        MemoryNeeds
      >)
    : null;
  const own = dtype && needs ? needs[dtype] : undefined;
  const kept = adapter && dtype && config && memoryNeeds(config, { ...sizes, dtype, adapters: { kept: adapter } });
  const opened = await problems.attemptAsync(() =>
    openDevice(options.device ?? 'auto', {
      ...(own ? { memoryNeeded: own.total } : {}),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
    }),
  );
  await using backend = opened?.backend;
  if (backend && config && dtype) problems.attempt(() => assertFitsDevice(backend, config, { ...sizes, dtype }));
  return {
    folder,
    architecture: model.architecture ?? null,
    config,
    parameters: config && parameterCount(config),
    stored: model.storedDTypes ?? null,
    quantised: model.quantised?.name ?? null,
    bytes: model.stored?.totalBytes ?? null,
    context: config?.maxPositionEmbeddings ?? null,
    ...guard,
    needs,
    ...(adapter ? { adapter: describeAdapter(adapter, kept && own ? kept.total - own.total : null) } : {}),
    dtype,
    device: opened ? deviceOf(opened.backend, opened.decision) : null,
    fits: backend && own ? own.total <= backend.memoryBudget : null,
    findings: problems.errors.map(({ code, message }) => ({ code, message })),
  };
}

type Known = Required<Pick<ExaminedFolder, 'storedDTypes'>> & Pick<ExaminedFolder, 'quantised'>;
type GuardParts = Pick<Inspection, 'tokenizer' | 'vocabulary' | 'template' | 'format' | 'categories'>;

const nothing: GuardParts = { tokenizer: null, vocabulary: null, template: null, format: null, categories: null };

/** How the model is asked: its tokenizer, its template, its policy, and whether they go together. */
async function guardOf(model: ExaminedFolder, options: InspectOptions, problems: Problems): Promise<GuardParts> {
  const { folder, config } = model;
  using tokenizer = await problems.attemptAsync(() => tokenizerIn(folder));
  if (tokenizer && config) problems.attempt(() => assertFits(tokenizer, config.vocabularySize));
  const { promptFormat: named } = options;
  const template = named === undefined ? await problems.attemptAsync(() => chatTemplateOf(folder)) : undefined;
  const format = await problems.attemptAsync(() => folderFormat(model, named));
  const policy =
    format && (await problems.attemptAsync(async () => (options.policy ?? same)(await folderPolicy(model, format))));
  if (format && policy) problems.attempt(() => assertAskable(format, policy));
  if (format && tokenizer) problems.attempt(() => assertAnswers(format, tokenizer));
  const list = format?.answer.list;
  if (list && policy && tokenizer) {
    const encode = (text: string) => tokenizer.encode(text);
    problems.attempt(() => assertDistinguishable(policy, encode, tokenizer.unknownId, list.written));
  }
  return {
    tokenizer: tokenizer?.kind ?? null,
    vocabulary: tokenizer?.vocabularySize ?? null,
    template: template?.source ?? null,
    format: format?.name ?? null,
    categories: policy?.categories.map(({ code, name }) => ({ code, name })) ?? null,
  };
}

const same = (own: Policy): Policy => own;

/** @throws TokenizerError `tokenizer-mismatch`, FormatError */
function assertAnswers(format: PromptFormat, tokenizer: Tokenizer): void {
  for (const role of roles) {
    answerTokens(tokenizer, format.answer, role, format.frame(format.policy, role).after.User);
  }
}

/** The adapter that is to be merged, as far as the model is known. */
async function adapterOf(
  { config, source }: ExaminedFolder,
  folder: string | undefined,
  problems: Problems,
): Promise<AdapterFolder | undefined> {
  if (folder === undefined || !config) return undefined;
  const adapter = await problems.attemptAsync(() => openAdapterFolder(folder, config));
  if (adapter && source) problems.attempt(() => mergedSource(source, adapter));
  return adapter;
}

const unique = <T>(values: readonly T[]): T[] => [...new Set(values)];

function describeAdapter(adapter: AdapterFolder, apart: number | null): AdapterInspection {
  const { folder, base, updates, source, storedDTypes } = adapter;
  const modules = [...updates.keys()].map((name) => name.split('.'));
  return {
    folder: folder.location,
    base: base ?? null,
    ranks: unique([...updates.values()].map(({ rank }) => rank)).sort((a, b) => a - b),
    targets: unique(modules.map((parts) => parts.at(-2)!)),
    layers: unique(modules.map((parts) => parts[2]!)).length,
    parameters: [...source.tensors.values()].reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0),
    stored: storedDTypes,
    bytes: source.totalBytes,
    apart,
  };
}

const deviceOf = ({ memoryBudget }: Backend, { device, reason }: DeviceDecision): Inspection['device'] => ({
  ...device,
  reason,
  memoryBudget: Number.isFinite(memoryBudget) ? memoryBudget : null,
});
