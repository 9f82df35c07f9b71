import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { expectedTensors } from '../engine/config.ts';
import {
  DeviceError,
  Llama,
  type LlamaConfig,
  memoryNeeds,
  parameterCount,
  SafetensorsSource,
  Session,
  SessionError,
} from '../engine/index.ts';
import type { WebGpuBackend } from '../engine/webgpu/backend.ts';
import { weightDTypes } from '../kernels/contract.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { architectureNames, traits } from './support/family.ts';
import { float64Forward } from './support/float64-forward.ts';
import { MemoryFile } from './support/memory-file.ts';
import { encodeSafetensors, randomWeights, smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';
import { largestDifference } from './support/tiny-guard.ts';

const ids = (count: number, vocabulary: number, seed = 7) =>
  Array.from({ length: count }, (_, i) => (i * 31 + seed * 17) % vocabulary);
const scaleOf = (row: ArrayLike<number>) => Math.max(...Array.from(row, Math.abs));

const sizes = fc
  .record({
    headDim: fc.constantFrom<number>(16, 18, 32, 80, 128),
    numKeyValueHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 3 }),
    numHiddenLayers: fc.integer({ min: 1, max: 3 }),
    hiddenSize: fc.integer({ min: 1, max: 70 }),
    intermediateSize: fc.integer({ min: 1, max: 90 }),
    vocabularySize: fc.integer({ min: 3, max: 200 }),
    tieWordEmbeddings: fc.boolean(),
    // One that would be missed, too: activations are about 1.
    rmsNormEpsilon: fc.constantFrom<number>(1e-5, 0.2),
    tokens: fc.integer({ min: 1, max: 40 }),
    seed: fc.integer({ min: 0, max: 1000 }),
  })
  .map(({ group, ...rest }) => ({ ...rest, numAttentionHeads: group * rest.numKeyValueHeads }));
type Sizes = typeof sizes extends fc.Arbitrary<infer T> ? T : never;

/** What must not be left to chance: the ends of the head sizes, one layer, one head for all, a head for each. */
const corners: Sizes[] = [
  { headDim: 16, numKeyValueHeads: 2, numAttentionHeads: 6, numHiddenLayers: 1, hiddenSize: 37, tokens: 19 },
  { headDim: 128, numKeyValueHeads: 1, numAttentionHeads: 3, numHiddenLayers: 2, hiddenSize: 64, tokens: 33 },
  { headDim: 64, numKeyValueHeads: 3, numAttentionHeads: 3, numHiddenLayers: 1, hiddenSize: 1, tokens: 1 },
].map((own, seed) => ({
  intermediateSize: 51,
  vocabularySize: 101,
  tieWordEmbeddings: false,
  rmsNormEpsilon: 0.2,
  seed,
  ...own,
}));

/** Models that are no more than Llama 2, scaled RoPE over several times its original context, and windows that move on. */
const family: [string, Partial<LlamaConfig>][] = [
  ['Llama 2', {}],
  [
    'Llama 3.1',
    {
      ropeScaling: {
        type: 'llama3',
        factor: 8,
        lowFrequencyFactor: 1,
        highFrequencyFactor: 4,
        originalMaxPositionEmbeddings: 32,
      },
    },
  ],
  ['Mistral', { slidingWindows: [7, 7] }],
  [
    'Qwen2 with a window in one layer',
    { attentionBias: 'queryKeyValue', slidingWindows: [null, 20], bosTokenId: null },
  ],
  ['Qwen3', { normalisesHeads: true, attentionBias: 'all', bosTokenId: null }],
];

describe.each(testDevices)('the engine on %s', (device) => {
  it.each(architectureNames)('agrees with the float64 forward pass on random configurations of %s', async (name) => {
    const examples = name === 'LlamaForCausalLM' ? corners.map((corner): [Sizes] => [corner]) : [];
    const configs = sizes.chain((own) => traits(own.numHiddenLayers, [name]).map((more) => ({ ...own, ...more })));
    await fc.assert(
      fc.asyncProperty(configs, async ({ tokens, seed, ...overrides }) => {
        const config = smallConfig(overrides);
        const { llama, weights } = await loadRandomModel(config, device, { seed });
        await using _ = llama;
        const prompt = ids(tokens, config.vocabularySize, seed);
        const expected = float64Forward(config, weights, prompt);
        using context = llama.createContext();
        const [rows] = await llama.logits([{ context, ids: prompt, wanted: prompt.map((_, i) => i) }]);
        rows!.forEach((row, i) => {
          expect(largestDifference(row, expected[i]!) / scaleOf(expected[i]!)).toBeLessThan(1e-4);
        });
      }),
      { numRuns: 8 + examples.length, examples },
    );
  });

  it.each(family)('gives the same results however a prompt is batched, split and shared: %s', async (_, own) => {
    const config = smallConfig({ numKeyValueHeads: 2, numAttentionHeads: 4, headDim: 16, ...own });
    const { llama, weights } = await loadRandomModel(config, device, { passTokens: 16, cacheTokens: 400 });
    await using _llama = llama;
    const prompt = ids(50, config.vocabularySize);
    const alone = await (async () => {
      using session = new Session(llama);
      return await session.prefill(prompt);
    })();
    const split = await (async () => {
      using session = new Session(llama);
      for (const [from, to] of [
        [0, 1],
        [1, 20],
        [20, 49],
      ] as const)
        await session.prefill(prompt.slice(from, to));
      using fork = session.fork();
      // The other branch must not show in this one.
      await fork.prefill(ids(9, config.vocabularySize, 3));
      return await session.prefill(prompt.slice(49));
    })();
    const batched = await (async () => {
      const contexts = [5, 50, 1, 33].map((count) => ({ context: llama.createContext(), count }));
      const rows = await llama.logits(
        contexts.map(({ context, count }) => ({ context, ids: prompt.slice(0, count), wanted: [count - 1] })),
      );
      for (const { context } of contexts) context[Symbol.dispose]();
      return rows[1]![0]!;
    })();
    const scale = scaleOf(alone);
    expect(largestDifference(alone, float64Forward(config, weights, prompt).at(-1)!) / scale).toBeLessThan(1e-4);
    expect(largestDifference(split, alone) / scale).toBeLessThan(1e-4);
    expect(largestDifference(batched, alone) / scale).toBeLessThan(1e-4);
    using again = new Session(llama);
    expect(Array.from(await again.prefill(prompt))).toEqual(Array.from(alone));
    expect(llama.freeCacheTokens).toBe(400 - 50);
  });

  it('reports log-probabilities over the whole vocabulary, for many wanted rows', async () => {
    const config = smallConfig();
    const { llama } = await loadRandomModel(config, device);
    await using _ = llama;
    const prompt = ids(100, config.vocabularySize);
    const wanted = prompt.map((_, i) => i);
    const picks = [0, 2, 1];
    using one = llama.createContext();
    using two = llama.createContext();
    const [rows] = await llama.logits([{ context: one, ids: prompt, wanted }]);
    const [logs] = await llama.logProbabilities([{ context: two, ids: prompt, wanted }], picks);
    expect(logs).toHaveLength(100);
    rows!.forEach((row, i) => {
      const sum = Math.log(row.reduce((total, x) => total + Math.exp(x), 0));
      expect(
        largestDifference(
          logs![i]!,
          picks.map((id) => row[id]! - sum),
        ),
      ).toBeLessThan(1e-4);
    });
  });

  it('samples reproducibly and stops when told', async () => {
    const config = smallConfig();
    const { llama } = await loadRandomModel(config, device);
    await using _ = llama;
    const prompt = ids(5, config.vocabularySize);
    const generate = async (options: Parameters<Session['generate']>[0]) => {
      using session = new Session(llama);
      await session.prefill(prompt);
      return await session.generate({ stopIds: [], ...options });
    };
    const sampled = { maxTokens: 12, temperature: 1, topK: 20, topP: 0.9, seed: 5 };
    expect(await generate(sampled)).toEqual(await generate(sampled));
    expect(await generate({ maxTokens: 12, temperature: 1, topK: 1 })).toEqual(await generate({ maxTokens: 12 }));
    const greedy = await generate({ maxTokens: 12 });
    expect(await generate({ maxTokens: 12, stopIds: [greedy[3]!] })).toEqual(
      greedy.slice(0, greedy.indexOf(greedy[3]!)),
    );
    await expect(generate({ maxTokens: 12, signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
    await expect(generate({ maxTokens: 1, temperature: -1 })).rejects.toMatchObject({ code: 'invalid-argument' });
    // What was taken ahead for tokens that did not come, too.
    expect(llama.freeCacheTokens).toBe(llama.cacheTokens);
  });

  it('refuses what it cannot serve and stays usable', async () => {
    const config = smallConfig({ maxPositionEmbeddings: 64 });
    const { llama } = await loadRandomModel(config, device, { cacheTokens: 80 });
    await using _ = llama;
    using session = new Session(llama);
    await expect(session.prefill(ids(65, config.vocabularySize))).rejects.toMatchObject({ code: 'context-overflow' });
    await expect(session.prefill([config.vocabularySize])).rejects.toMatchObject({ code: 'token-out-of-range' });
    await expect(session.prefill([])).rejects.toBeInstanceOf(SessionError);
    await session.prefill(ids(60, config.vocabularySize));
    using other = new Session(llama);
    await expect(other.prefill(ids(30, config.vocabularySize))).rejects.toMatchObject({ code: 'cache-full' });
    for (const wrong of [[config.vocabularySize], [1, config.vocabularySize + 5], [-1], [0.5]]) {
      await expect(session.logProbabilities(wrong)).rejects.toMatchObject({ code: 'token-out-of-range' });
    }
    session[Symbol.dispose]();
    expect(llama.freeCacheTokens).toBe(80);
    await expect(other.prefill(ids(30, config.vocabularySize))).resolves.toBeDefined();
  });

  it.each(weightDTypes)('never takes what is no number for an answer, weights in %s', async (dtype) => {
    const config = smallConfig({ hiddenSize: 32, intermediateSize: 64 });
    const shapes = expectedTensors(config);
    const prompts = [1, 20].map((count) => ids(count, config.vocabularySize));
    // Deep inside, where everything after it is lost, and in the last norm, just before the logits.
    for (const damaged of ['model.layers.1.input_layernorm.weight', 'model.norm.weight']) {
      for (const damage of [Number.NaN, Number.POSITIVE_INFINITY]) {
        const tensors = [...randomWeights(config, 1, 'F32')].map(([name, data]) => {
          if (name === damaged) data[5] = damage;
          return [name, { dtype: 'F32', shape: shapes.get(name)!, data }] as const;
        });
        const file = new MemoryFile(encodeSafetensors(Object.fromEntries(tensors)));
        await using source = await SafetensorsSource.open([file]);
        await using llama = await Llama.load(await openTestDevice(device), config, source, { dtype });
        for (const prompt of prompts) {
          const error = { code: 'not-a-number', message: expect.stringContaining('no numbers') };
          const wanted = [prompt.length - 1];
          using context = llama.createContext();
          await expect(llama.logits([{ context, ids: prompt, wanted }])).rejects.toMatchObject(error);
          using other = llama.createContext();
          const picked = llama.logProbabilities([{ context: other, ids: prompt, wanted }], [3, 5]);
          await expect(picked).rejects.toMatchObject(error);
        }
      }
    }
  });

  it('tells of an infinity among the weights of the head, which one token has alone', async () => {
    const config = smallConfig({ tieWordEmbeddings: false });
    const shapes = expectedTensors(config);
    const tensors = [...randomWeights(config, 1, 'F32')].map(([name, data]) => {
      if (name === 'lm_head.weight') data[7 * config.hiddenSize] = Number.NEGATIVE_INFINITY;
      return [name, { dtype: 'F32', shape: shapes.get(name)!, data }] as const;
    });
    await using source = await SafetensorsSource.open([new MemoryFile(encodeSafetensors(Object.fromEntries(tensors)))]);
    await using llama = await Llama.load(await openTestDevice(device), config, source, { dtype: 'f32' });
    for (const seed of [1, 2, 3, 4]) {
      using context = llama.createContext();
      const input = { context, ids: ids(5, config.vocabularySize, seed), wanted: [4] };
      await expect(llama.logProbabilities([input], [7, 8])).rejects.toMatchObject({ code: 'not-a-number' });
    }
  });

  it('takes the memory it says, refuses too little, and gives all back', async () => {
    const config = smallConfig();
    const { llama, backend } = await loadRandomModel(config, device);
    const needs = memoryNeeds(config, { dtype: 'f32' });
    expect(backend.memory.liveBytes).toBeGreaterThan(needs.total * 0.9);
    await llama[Symbol.asyncDispose]();
    await llama[Symbol.asyncDispose]();
    expect(backend.memory.liveBytes).toBe(0);
    const refused = loadRandomModel(config, device, { memoryBudget: needs.total - 1 });
    await expect(refused).rejects.toThrow(DeviceError);
    await expect(refused).rejects.toMatchObject({ code: 'out-of-memory' });
  });
});

it('says of every architecture how much memory its weights take', () => {
  fc.assert(
    fc.property(traits(2), (own) => {
      const config = smallConfig(own);
      expect(memoryNeeds(config, { dtype: 'f32' }).weights).toBe(4 * parameterCount(config));
    }),
  );
});

it('turns far beyond the original context as scaled RoPE has it', async () => {
  const scaling = { type: 'llama3', factor: 8, lowFrequencyFactor: 1, highFrequencyFactor: 4 } as const;
  const config = smallConfig({
    numHiddenLayers: 1,
    numAttentionHeads: 2,
    numKeyValueHeads: 1,
    headDim: 32,
    maxPositionEmbeddings: 1024,
    ropeTheta: 500_000,
    ropeScaling: { ...scaling, originalMaxPositionEmbeddings: 128 },
  });
  const { llama, weights } = await loadRandomModel(config, 'cpu');
  await using _ = llama;
  const prompt = ids(1024, config.vocabularySize);
  using context = llama.createContext();
  const wanted = [127, 128, 511, 1023];
  const [rows] = await llama.logits([{ context, ids: prompt, wanted }]);
  const expected = float64Forward(config, weights, prompt);
  const plain = float64Forward(smallConfig({ ...config, ropeScaling: { type: 'linear', factor: 1 } }), weights, prompt);
  for (const [i, at] of wanted.entries()) {
    const scale = scaleOf(expected[at]!);
    expect(largestDifference(rows![i]!, expected[at]!) / scale).toBeLessThan(1e-4);
    expect(largestDifference(plain[at]!, expected[at]!) / scale).toBeGreaterThan(1e-2);
  }
});

describe.each(testDevices.filter((device) => device !== 'cpu'))('WebGPU as %s', (device) => {
  it('splits tensors larger than a binding, unseen', async () => {
    // The table takes 281 KiB; everything else fits in 96.
    const config = smallConfig({ vocabularySize: 300, hiddenSize: 240 });
    const prompt = ids(20, config.vocabularySize);
    const run = async (options: { largestBinding?: number }) => {
      const { llama } = await loadRandomModel(config, device, {
        cacheTokens: 64,
        contextLength: 32,
        passTokens: 8,
        ...options,
      });
      await using _ = llama;
      using session = new Session(llama);
      return Array.from(await session.prefill(prompt));
    };
    const whole = await run({});
    const inBlocks = await run({ largestBinding: 96 * 1024 });
    expect(largestDifference(inBlocks, whole) / scaleOf(whole)).toBeLessThan(1e-6);
  });

  it('refuses a cache and passes larger than a binding, before any weight is read', async () => {
    const config = smallConfig({ maxPositionEmbeddings: 1024 });
    const load = (sizes: object) => loadRandomModel(config, device, { largestBinding: 64 * 1024, ...sizes });
    // A token takes 48 bytes of a layer's keys.
    await expect(load({ cacheTokens: 1366, passTokens: 8 })).rejects.toMatchObject({
      code: 'out-of-memory',
      message: expect.stringMatching(/keys of a layer, of 1366 tokens, .*Use a key-value cache of at most 1365 tokens/),
    });
    await expect(load({ cacheTokens: 1365, passTokens: 1024 })).rejects.toMatchObject({
      code: 'out-of-memory',
      message: expect.stringContaining("Use shorter passes ('passTokens')"),
    });
    const { llama } = await load({ cacheTokens: 1365, passTokens: 8 });
    await llama[Symbol.asyncDispose]();
  });

  it('refuses what no dispatch holds, and goes on', async () => {
    await using backend = (await openTestDevice(device)) as WebGpuBackend;
    const most = 65_535;
    const outputs = 16 * most + 1;
    const x = backend.allocate('x', 'f32', [1, 8]);
    const weight = backend.allocate('weight', 'f16', [outputs, 8]);
    const out = backend.allocate('out', 'f32', [1, outputs]);
    expect(() => backend.run(matmul, { x, weight, out })).toThrow(/65536 x 1 x 1 workgroups/);
    await expect(backend.finish()).resolves.toBeUndefined();
  });

  it('fails what is in flight when it is disposed', async () => {
    const config = smallConfig();
    const { llama } = await loadRandomModel(config, device);
    const inFlight = llama.prefill([{ context: llama.createContext(), ids: ids(30, config.vocabularySize) }]);
    await Promise.all([
      expect(inFlight).rejects.toMatchObject({ code: 'device-unavailable' }),
      llama[Symbol.asyncDispose](),
    ]);
  });

  it('rejects what is in flight when the device is lost', async () => {
    const config = smallConfig();
    const { llama } = await loadRandomModel(config, device);
    using session = new Session(llama);
    const inFlight = session.prefill(ids(30, config.vocabularySize));
    llama.loseDevice();
    await expect(inFlight).rejects.toMatchObject({ code: 'device-lost' });
    await expect(session.prefill([1])).rejects.toMatchObject({ code: 'context-lost' });
    using another = new Session(llama);
    await expect(another.prefill([1])).rejects.toMatchObject({ code: 'device-lost' });
    await llama[Symbol.asyncDispose]();
  });
});

describe.runIf(testDevices.includes('webgpu'))('WebGPU that is disposed', () => {
  it('may be collected at once', () => {
    const program = `
      import { openWebGpu } from ${JSON.stringify(new URL('../engine/node/open-webgpu.ts', import.meta.url).href)};
      for (let i = 0; i < 2; i++) {
        await (async () => {
          const devices = [await openWebGpu(), await openWebGpu()];
          for (const device of devices) await device[Symbol.asyncDispose]();
        })();
        for (let turn = 0; turn < 5; turn++) {
          gc();
          await new Promise(setImmediate);
        }
      }`;
    const flags = ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e'];
    const { status, signal } = spawnSync(process.execPath, [...flags, program], { timeout: 60_000 });
    expect({ status, signal }).toEqual({ status: 0, signal: null });
  });
});
