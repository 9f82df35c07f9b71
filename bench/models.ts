import { InvalidArgumentError, Option } from 'commander';
import {
  DeviceError,
  Llama,
  type LlamaConfig,
  memoryNeeds,
  parameterCount,
  type WeightDType,
} from '../engine/index.ts';
import { openDevice } from '../engine/node/open-device.ts';
import { weightDTypes } from '../kernels/contract.ts';
import { seededRandom } from '../kernels/random.ts';
import { computedOn } from './environment.ts';
import { measure } from './measure.ts';
import { type Flags, type ThreadFlags, threadsOption, wholeNumber } from './measurement.ts';
import { makeRandomWeights } from './random-weights.ts';
import type { ModelPass, ModelResult, Sections } from './schema.ts';
import { linearFlops, type ShapeName, shapes } from './shapes.ts';

export interface ModelFlags extends ThreadFlags {
  readonly config: readonly ShapeName[];
  readonly dtype: WeightDType;
  readonly tokens: number;
  readonly newTokens: number;
  readonly batch: readonly number[];
}

export const options: readonly Option[] = [
  new Option('--config <names>', `shapes, separated by commas: ${Object.keys(shapes).join(', ')}`)
    .argParser((text) =>
      text.split(',').map((name) => {
        if (name in shapes) return name;
        throw new InvalidArgumentError(`There is ${Object.keys(shapes).join(', ')}.`);
      }),
    )
    .default(['tiny'], 'tiny'),
  new Option('--dtype <dtype>', 'how weights are held').choices(weightDTypes).default('f16'),
  new Option('--tokens <n>', 'tokens of the prompt').argParser(wholeNumber).default(512),
  new Option('--new-tokens <n>', 'tokens that are new where the rest is cached').argParser(wholeNumber).default(66),
  new Option('--batch <sizes>', 'sequences of a batch, separated by commas')
    .argParser((text) => text.split(',').map(wholeNumber))
    .default([1, 4, 16], '1,4,16'),
  threadsOption,
];

/** Models of real shapes with random weights: prefill, prefill after a cached prefix, batches, decode. */
export async function run({ config, progress, ...flags }: Flags & ModelFlags): Promise<Sections> {
  const models: ModelResult[] = [];
  for (const name of config) {
    try {
      models.push(await benchModel(name, flags, (what) => progress(`${name}: ${what}`)));
    } catch (error) {
      if (!(error instanceof DeviceError && error.code === 'out-of-memory')) throw error;
      progress('');
      console.log(`The shape ${name} does not fit this device. ${error.message}`);
    }
  }
  return { models };
}

async function benchModel(
  name: ShapeName,
  { device, quick, dtype, tokens, newTokens, batch, threads }: Omit<Flags & ModelFlags, 'config' | 'progress'>,
  progress: (what: string) => void,
): Promise<ModelResult> {
  const config: LlamaConfig = shapes[name];
  const contextLength = Math.min(config.maxPositionEmbeddings, tokens + newTokens);
  const prefixTokens = Math.max(1, contextLength - newTokens);
  const sizes = {
    contextLength,
    cacheTokens: contextLength + Math.max(...batch) * newTokens,
    passTokens: Math.min(contextLength, 1024),
  };
  progress('making weights');
  const { backend } = await openDevice(device, {
    memoryNeeded: memoryNeeds(config, { ...sizes, dtype }).total,
    ...(threads === undefined ? {} : { threads }),
  });
  let weightsMs = 0;
  const makeWeights = async () => {
    const start = performance.now();
    const weights = await makeRandomWeights(backend, config, dtype);
    await backend.finish();
    weightsMs = performance.now() - start;
    return weights;
  };
  await using llama = await Llama.fromWeights(backend, config, makeWeights, { ...sizes, dtype });

  const random = seededRandom(1);
  const draw = (count: number) => Array.from({ length: count }, () => Math.floor(random() * config.vocabularySize));
  const passes: ModelPass[] = [];
  const effort = quick ? { minimumMs: 0, minimumRuns: 1 } : { minimumMs: 500, minimumRuns: 5, enoughMs: 15_000 };
  /** Times one pass of `count` new tokens in each of some forks of a context. */
  const pass = async (
    kind: ModelPass['kind'],
    context: ReturnType<Llama['createContext']>,
    sequences: number,
    count: number,
  ) => {
    progress(`${kind}, ${sequences} x ${count} tokens after ${context.length}`);
    const timing = await measure(async () => {
      const inputs = Array.from({ length: sequences }, () => ({
        context: context.fork(),
        ids: draw(count),
        wanted: [count - 1],
      }));
      try {
        await llama.logProbabilities(inputs, [0, 1]);
      } finally {
        for (const input of inputs) input.context[Symbol.dispose]();
      }
    }, effort);
    const scenario = { kind, sequences, prefixTokens: context.length, newTokens: count };
    passes.push({ ...scenario, linearFlops: linearFlops(config, sequences * count, sequences), ...timing });
  };

  {
    using empty = llama.createContext();
    await pass('prefill', empty, 1, Math.min(tokens, contextLength));
  }
  using prefix = llama.createContext();
  await llama.prefill([{ context: prefix, ids: draw(prefixTokens) }]);
  await pass('cached prefill', prefix, 1, newTokens);
  for (const size of batch.filter((size) => size > 1)) await pass('batch', prefix, size, newTokens);
  await pass('decode', prefix, 1, 1);

  return {
    config: name,
    dtype,
    ...computedOn(llama.device),
    parameters: parameterCount(config),
    weightsMs,
    predictedBytes: memoryNeeds(config, { ...sizes, dtype }).total,
    usedBytes: llama.memory.liveBytes,
    passes,
  };
}
