import { weightDTypes } from '../kernels/contract.ts';
import { activationBytes } from './activations.ts';
import type { Adapter } from './adapter.ts';
import { adapterBytes, adapterRoom } from './adapter-weights.ts';
import type { Backend } from './backend.ts';
import type { LlamaConfig } from './config.ts';
import { DeviceError, SessionError } from './errors.ts';
import { formatBytes } from './format.ts';
import { bytesPerToken, cacheTensorBytes } from './kv-cache.ts';
import { pickBytes } from './picks.ts';
import { type WeightDType, weightBytes } from './weights.ts';

/** What the memory of a model on a device depends on beside its weights. */
export interface Sizes {
  /** Tokens that the key-value cache holds, for all contexts together; by default two whole contexts. */
  readonly cacheTokens: number;
  /** The longest context served; by default the model's own limit, at most 8,192. */
  readonly contextLength: number;
  /** Tokens that one pass takes at most; what exceeds it is read in several. Default 512. */
  readonly passTokens: number;
}

/** Bytes that a model takes on a device, by what they are for. */
export interface MemoryNeeds {
  readonly weights: number;
  /** Of adapters that are kept apart. */
  readonly adapters: number;
  readonly cache: number;
  readonly activations: number;
  readonly total: number;
}

const longestDefaultContext = 8192;

/** @throws SessionError `invalid-argument` */
export function sizesOf(config: LlamaConfig, options: Partial<Sizes>): Sizes {
  const contextLength = Math.min(options.contextLength ?? longestDefaultContext, config.maxPositionEmbeddings);
  const { cacheTokens = 2 * contextLength, passTokens = Math.min(512, contextLength) } = options;
  for (const [name, value] of Object.entries({ contextLength, cacheTokens, passTokens })) {
    if (!(Number.isInteger(value) && value > 0)) {
      throw new SessionError('invalid-argument', `'${name}' must be a positive whole number, but is ${value}.`);
    }
  }
  return { contextLength, cacheTokens, passTokens };
}

/** What the memory of a model depends on. */
export interface MemoryOptions extends Partial<Sizes> {
  readonly dtype: WeightDType;
  /** Adapters that are kept apart. */
  readonly adapters?: Readonly<Record<string, Pick<Adapter, 'updates'>>>;
}

/** What `Llama.load` with these options takes on a device. */
export function memoryNeeds(config: LlamaConfig, options: MemoryOptions): MemoryNeeds {
  const { contextLength, cacheTokens, passTokens } = sizesOf(config, options);
  const weights = weightBytes(config, options.dtype);
  const cache = cacheTokens * bytesPerToken(config);
  const kept = Object.values(options.adapters ?? {});
  const adapters = kept.reduce((sum, adapter) => sum + adapterBytes(config, adapter, options.dtype), 0);
  const rows = activationBytes(config, passTokens, adapterRoom(config, kept));
  const activations = rows.total + contextLength * config.headDim * 4 + pickBytes;
  return { weights, adapters, cache, activations, total: weights + adapters + cache + activations };
}

/** What to do about each consumer of device memory. */
const remedies = {
  weights: { name: 'weights', remedy: 'a smaller dtype' },
  adapters: { name: 'adapters', remedy: 'fewer adapters' },
  cache: { name: 'key-value cache', remedy: 'a smaller key-value cache' },
  activations: { name: 'activations', remedy: 'shorter passes' },
} as const;

/**
 * @throws DeviceError `out-of-memory` that names the consumers, the largest first, and a dtype in which the model fits; or
 *   what is larger than an operation of the device takes
 */
export function assertFits(backend: Backend, config: LlamaConfig, options: MemoryOptions): void {
  assertTotalFits(backend, config, options);
  const { cacheTokens, passTokens } = sizesOf(config, options);
  const { largestBinding = Number.POSITIVE_INFINITY } = backend;
  const tooLarge = (what: string, bytes: number, remedy: string) =>
    new DeviceError(
      'out-of-memory',
      `${what} take ${formatBytes(bytes)} in one piece, but kernels of this device are given ` +
        `${formatBytes(largestBinding)} at most. Use ${remedy}.`,
    );
  const layer = cacheTensorBytes(cacheTokens, config);
  if (layer > largestBinding) {
    const most = Math.floor(largestBinding / cacheTensorBytes(1, config));
    const remedy = `a key-value cache of at most ${most} tokens, ${formatBytes(most * bytesPerToken(config))}`;
    throw tooLarge(`The keys of a layer, of ${cacheTokens} tokens,`, layer, remedy);
  }
  const { largest } = activationBytes(config, passTokens, adapterRoom(config, Object.values(options.adapters ?? {})));
  if (largest > largestBinding) {
    throw tooLarge(`The activations of a pass of ${passTokens} tokens`, largest, "shorter passes ('passTokens')");
  }
}

function assertTotalFits(backend: Backend, config: LlamaConfig, options: MemoryOptions): void {
  const needs = memoryNeeds(config, options);
  if (needs.total <= backend.memoryBudget) return;
  const narrower = weightDTypes
    .slice(weightDTypes.indexOf(options.dtype) + 1)
    .map((dtype) => ({ dtype, total: memoryNeeds(config, { ...options, dtype }).total }));
  const fitting = narrower.find(({ total }) => total <= backend.memoryBudget);
  const advice = fitting ? ` As ${fitting.dtype} it needs ${formatBytes(fitting.total)}.` : '';
  const consumers = (['weights', 'adapters', 'cache', 'activations'] as const).filter((part) => needs[part] > 0);
  const largestFirst = consumers.toSorted((a, b) => needs[b] - needs[a]);
  const [first, second] = largestFirst.map((part) => remedies[part].remedy);
  throw new DeviceError(
    'out-of-memory',
    `The model needs ${formatBytes(needs.total)} (` +
      `${largestFirst.map((part) => `${remedies[part].name} ${formatBytes(needs[part])}`).join(', ')}), but there is ` +
      `${formatBytes(backend.memoryBudget)}${backend.memoryBound ? `, ${backend.memoryBound}` : ''}.${advice} Use ${first}, ${second} or another device.`,
  );
}
