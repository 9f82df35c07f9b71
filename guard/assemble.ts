import { openAdapter, openAdapters } from '../engine/adapter-folder.ts';
import type { Backend } from '../engine/backend.ts';
import {
  type DeviceChoice,
  type DeviceDecision,
  deviceChoices,
  type OpenDeviceOptions,
} from '../engine/device-choice.ts';
import { reasonOf } from '../engine/errors.ts';
import type { Folder } from '../engine/folder.ts';
import {
  bytesPerToken,
  cacheTokensWithin,
  Llama,
  type LlamaConfig,
  ModelError,
  memoryNeeds,
  mergedSource,
  type WeightDType,
} from '../engine/index.ts';
import { type ModelFolder, openModel } from '../engine/model-folder.ts';
import { type TuningStore, tune } from '../engine/tuning.ts';
import { weightDTypes } from '../kernels/contract.ts';
import { assertFits } from '../tokenizer/index.ts';
import { tokenizerIn } from '../tokenizer/load.ts';
import { assertOneOf, assertOptions } from './assert-options.ts';
import { assertCalibrates, parseCalibration } from './calibration/calibration.ts';
import { OptionError, PolicyError } from './errors.ts';
import { folderFormat } from './folder-format.ts';
import type { PromptFormat } from './formats/index.ts';
import { adaptedName, type Guard, type GuardParts } from './guard.ts';
import { adaptedHash, modelHash } from './identity.ts';
import { type LoadOptions, tunings } from './options.ts';
import { assertValid, type Policy, parsePolicyText } from './policy.ts';

/** What a platform brings to a guard: Node.js, or a page. */
export interface GuardPlatform<Place> {
  folderAt(place: Place): Folder;
  openDevice(
    choice: DeviceChoice,
    options: OpenDeviceOptions,
  ): Promise<{ readonly backend: Backend; readonly decision: DeviceDecision }>;
  readonly tuning: TuningStore;
}

/** Beyond the largest tokenizers there are. */
const maxBytes = 64 * 2 ** 20;

/** The files that decide how text becomes tokens, and turns a prompt. */
const textFiles = [
  'chat_template.jinja',
  'chat_template.json',
  'special_tokens_map.json',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
];

/** The policy that a model folder brings along, or the one that its format asks about. @throws PolicyError */
export async function folderPolicy({ folder }: Pick<ModelFolder, 'folder'>, format: PromptFormat): Promise<Policy> {
  const source = folder.locate('policy.json');
  const bytes = await folder.read('policy.json', maxBytes).catch((cause) => {
    throw new PolicyError('policy-not-found', `The policy file ${source} cannot be read: ${cause.message}.`, { cause });
  });
  return bytes ? parsePolicyText(new TextDecoder().decode(bytes), source) : format.policy;
}

/**
 * What `auto` comes down to: q8 or q4 where the checkpoint is quantised, f16 where it has sixteen bits, else f32.
 * @throws OptionError `option-invalid`
 */
export function resolveDType(
  asked: LoadOptions['dtype'],
  { storedDTypes, quantised }: Pick<ModelFolder, 'storedDTypes' | 'quantised'>,
): WeightDType {
  if (asked === undefined || asked === 'auto') {
    return quantised?.dtype ?? (storedDTypes.includes('F32') ? 'f32' : 'f16');
  }
  if (weightDTypes.includes(asked)) return asked;
  throw new OptionError('option-invalid', `The dtype must be auto, ${weightDTypes.join(', ')}, but is '${asked}'.`);
}

/** Tokens of the key-value cache in so many bytes. @throws OptionError */
export function resolveCacheTokens(cacheMemory: number | undefined, config: LlamaConfig): { cacheTokens?: number } {
  if (cacheMemory === undefined) return {};
  const cacheTokens = cacheTokensWithin(cacheMemory, config);
  if (cacheTokens > 0) return { cacheTokens };
  throw new OptionError(
    'option-invalid',
    `The cache memory must hold one token or more, ${bytesPerToken(config)} bytes each with this model, but is ${cacheMemory} bytes.`,
  );
}

/** Hashes the model with what decides how text becomes tokens, and turns a prompt. */
async function hashOf({ folder, config, stored }: ModelFolder): Promise<string> {
  const read = (name: string) =>
    folder.read(name, maxBytes).catch((cause) => {
      throw new ModelError('read-failed', `${folder.locate(name)}: ${reasonOf(cause)}.`, { cause });
    });
  const contents = await Promise.all(textFiles.map(async (name) => [name, await read(name)] as const));
  const found = contents.filter((entry): entry is [string, Uint8Array] => entry[1] !== undefined);
  return modelHash({ config, source: stored, tokenizer: Object.fromEntries(found) });
}

/**
 * Puts a guard together from a model folder and those of adapters, wherever they lie.
 * @param create makes the guard of its parts; where it refuses them they are disposed
 * @throws ModelError, TokenizerError, PolicyError, CalibrationError, DeviceError, OptionError, or the signal's reason
 */
export async function assembleGuard<Result extends Guard, Place>(
  place: Place,
  options: LoadOptions<Place>,
  platform: GuardPlatform<Place>,
  create: (parts: Omit<GuardParts, 'reload'>) => Result,
): Promise<Result> {
  assertOptions(options);
  assertOneOf('device', options.device, deviceChoices);
  assertOneOf('tuning', options.tuning, tunings);
  const { signal } = options;
  signal?.throwIfAborted();
  try {
    return await assemble(place, options, platform, create);
  } catch (error) {
    // Whatever failed once it was told to stop, a fetch say, did so for that reason.
    signal?.throwIfAborted();
    throw error;
  }
}

async function assemble<Result extends Guard, Place>(
  place: Place,
  options: LoadOptions<Place>,
  platform: GuardPlatform<Place>,
  create: (parts: Omit<GuardParts, 'reload'>) => Result,
): Promise<Result> {
  const folder = platform.folderAt(place);
  await using opened = await openModel(folder);
  const { config } = opened;
  const { mergedAdapter } = options;
  await using merged =
    mergedAdapter === undefined ? undefined : await openAdapter(platform.folderAt(mergedAdapter), config);
  const beside = Object.entries(options.adapters ?? {}).map(([name, at]) => [name, platform.folderAt(at)] as const);
  await using apart = await openAdapters(Object.fromEntries(beside), config);
  const { adapters } = apart;
  const source = merged ? mergedSource(opened.source, merged) : opened.source;
  const tokenizer = await tokenizerIn(folder);
  try {
    assertFits(tokenizer, config.vocabularySize);
    const format = await folderFormat(opened, options.promptFormat);
    const { policy: asked = (own) => own } = options;
    const policy = typeof asked === 'function' ? asked(await folderPolicy(opened, format)) : asked;
    // Before the weights, which may take minutes; where it is not the model's own.
    if (policy !== format.policy) assertValid(policy, "'policy'");
    const dtype = resolveDType(options.dtype, opened);
    const sizes = resolveCacheTokens(options.cacheMemory, config);
    const plain = await hashOf(opened);
    const model = {
      name: adaptedName(folder.name, merged?.folder.name),
      hash: merged ? await adaptedHash(plain, merged) : plain,
    };
    const adapterHashes = new Map<string, string>();
    for (const [name, adapter] of Object.entries(adapters)) {
      adapterHashes.set(name, await adaptedHash(model.hash, adapter));
    }
    const calibration = options.calibration && parseCalibration(options.calibration, "'calibration'");
    const ofAdapter = [...adapterHashes.values()].some((hash) => hash === calibration?.model.hash);
    if (calibration && !ofAdapter) assertCalibrates(calibration, { model, dtype });
    const { tuning = 'use', onTuning, signal } = options;
    const { backend, decision } = await platform.openDevice(options.device ?? 'auto', {
      ...options,
      tuning: tuning === 'ignore' ? 'ignore' : 'use',
      memoryNeeded: memoryNeeds(config, { ...options, ...sizes, dtype, adapters }).total,
    });
    const {
      device: _device,
      mergedAdapter: _merged,
      promptFormat: _format,
      policy: _policy,
      calibration: _calibration,
      dtype: _dtype,
      memoryBudget: _budget,
      prefer,
      threads: _threads,
      tuning: _tuning,
      onTuning: _onTuning,
      cacheMemory: _cache,
      ...rest
    } = options;
    const llama = await Llama.load(backend, config, source, { ...rest, ...sizes, dtype, adapters });
    try {
      if (tuning === 'measure') {
        await tune(llama, backend, platform.tuning, {
          ...(onTuning ? { onProgress: onTuning } : {}),
          ...(signal ? { signal } : {}),
        });
      }
      return create({
        model: model.name,
        modelHash: model.hash,
        adapterHashes,
        llama,
        tokenizer,
        format,
        policy,
        calibration,
        decision,
        prefer,
      });
    } catch (error) {
      await llama[Symbol.asyncDispose]();
      throw error;
    }
  } catch (error) {
    tokenizer[Symbol.dispose]();
    throw error;
  }
}
