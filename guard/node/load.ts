import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  cacheTokensWithin,
  Llama,
  type LlamaConfig,
  memoryNeeds,
  mergedSource,
  type WeightDType,
} from '../../engine/index.ts';
import { openAdapter, openAdapters } from '../../engine/node/adapter-folder.ts';
import { type ModelFolder, openModelFolder } from '../../engine/node/model-folder.ts';
import { openDevice } from '../../engine/node/open-device.ts';
import { tuneOnce } from '../../engine/node/tuning-file.ts';
import { weightDTypes } from '../../kernels/contract.ts';
import { assertFits } from '../../tokenizer/index.ts';
import { loadTokenizer } from '../../tokenizer/load.node.ts';
import { assertCalibrates, type Calibration, parseCalibration } from '../calibration/calibration.ts';
import { CalibrationError, OptionError, PolicyError } from '../errors.ts';
import type { PromptFormat } from '../formats/index.ts';
import { adaptedName, Guard } from '../guard.ts';
import { adaptedHash, modelHash } from '../identity.ts';
import type { LoadOptions } from '../options.ts';
import { builtInPolicies } from '../policies/index.ts';
import { type Policy, parsePolicy } from '../policy.ts';
import { folderFormat } from './folder-format.ts';

/** The demonstration model that comes with this package. */
export const embeddedModel = fileURLToPath(new URL('../models/tiny-guard', import.meta.url));

/** Reads and validates a policy file. @throws PolicyError */
export async function readPolicy(file: string): Promise<Policy> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new PolicyError(
      'policy-not-found',
      `The policy file ${file} cannot be read, and no built-in policy has that name: there are ${Object.keys(builtInPolicies).join(', ')}.`,
      { cause },
    );
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new PolicyError('policy-invalid', `${file} is not JSON: ${(cause as Error).message}.`, { cause });
  }
  return parsePolicy(json, file);
}

/** A policy by the name of a built-in one or by its file. @throws PolicyError */
export async function policyNamed(nameOrFile: string): Promise<Policy> {
  const builtIn = (builtInPolicies as Readonly<Record<string, Policy>>)[nameOrFile];
  return builtIn && Object.hasOwn(builtInPolicies, nameOrFile) ? builtIn : readPolicy(nameOrFile);
}

/** Reads and validates a calibration file. @throws CalibrationError `calibration-not-found`, `calibration-invalid` */
export async function readCalibration(file: string): Promise<Calibration> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new CalibrationError('calibration-not-found', `The calibration file ${file} cannot be read.`, { cause });
  });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new CalibrationError('calibration-invalid', `${file} is not JSON: ${(cause as Error).message}.`, { cause });
  }
  return parseCalibration(json, file);
}

/** The policy that a model folder brings along, or the one that its format asks about. */
export async function folderPolicy(
  { folder, files }: Pick<ModelFolder, 'folder' | 'files'>,
  format: PromptFormat,
): Promise<Policy> {
  const own = files.some(({ name }) => name === 'policy.json');
  return own ? readPolicy(join(folder, 'policy.json')) : format.policy;
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
  throw new OptionError('option-invalid', `The cache memory must hold one token or more, but is ${cacheMemory} bytes.`);
}

/** Hashes the model with what decides how text becomes tokens, and turns a prompt. */
async function hashOf({ folder, files, config, stored }: ModelFolder): Promise<string> {
  const names = files
    .map(({ name }) => name)
    .filter((name) => /^(?:tokenizer|special_tokens_map|chat_template)/.test(name));
  const contents = await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))] as const));
  return modelHash({ config, source: stored, tokenizer: Object.fromEntries(contents) });
}

/** Puts a guard together from a model folder. */
export async function loadGuard(folder: string = embeddedModel, options: LoadOptions = {}): Promise<Guard> {
  options.signal?.throwIfAborted();
  await using opened = await openModelFolder(folder);
  const { mergedAdapter } = options;
  await using merged = mergedAdapter === undefined ? undefined : await openAdapter(mergedAdapter, opened.config);
  await using apart = await openAdapters(options.adapters ?? {}, opened.config);
  const source = merged ? mergedSource(opened.source, merged) : opened.source;
  const tokenizer = await loadTokenizer(folder);
  try {
    assertFits(tokenizer, opened.config.vocabularySize);
    const format = await folderFormat(opened, options.promptFormat);
    const { policy: asked = (own) => own } = options;
    const policy = typeof asked === 'function' ? asked(await folderPolicy(opened, format)) : asked;
    const dtype = resolveDType(options.dtype, opened);
    const sizes = resolveCacheTokens(options.cacheMemory, opened.config);
    const plain = await hashOf(opened);
    const model = {
      name: adaptedName(basename(resolve(folder)), merged && basename(resolve(merged.folder))),
      hash: merged ? await adaptedHash(plain, merged) : plain,
    };
    const adapterHashes = new Map<string, string>();
    for (const [name, adapter] of Object.entries(apart.adapters)) {
      adapterHashes.set(name, await adaptedHash(model.hash, adapter));
    }
    const { calibration } = options;
    const ofAdapter = [...adapterHashes.values()].some((hash) => hash === calibration?.model.hash);
    if (calibration && !ofAdapter) assertCalibrates(calibration, { model, dtype });
    const { tuning = 'use', onTuning, signal } = options;
    const { adapters } = apart;
    const { backend, decision } = await openDevice(options.device ?? 'auto', {
      ...options,
      tuning: tuning === 'ignore' ? 'ignore' : 'use',
      memoryNeeded: memoryNeeds(opened.config, { ...options, ...sizes, dtype, adapters }).total,
    });
    const {
      device: _device,
      mergedAdapter: _merged,
      promptFormat: _format,
      policy: _policy,
      calibration: _calibration,
      dtype: _dtype,
      memoryBudget: _budget,
      prefer: _prefer,
      threads: _threads,
      tuning: _tuning,
      onTuning: _onTuning,
      cacheMemory: _cache,
      ...rest
    } = options;
    const llama = await Llama.load(backend, opened.config, source, { ...rest, ...sizes, dtype, adapters });
    try {
      if (tuning === 'measure') {
        await tuneOnce(llama, backend, {
          ...(onTuning ? { onProgress: onTuning } : {}),
          ...(signal ? { signal } : {}),
        });
      }
      return new Guard({
        model: model.name,
        modelHash: model.hash,
        adapterHashes,
        llama,
        tokenizer,
        format,
        policy,
        calibration,
        decision,
        reload: () => loadGuard(folder, options),
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
