/** Adapters merged and kept apart: against the oracle, against each other, and beside each other. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { Recording } from '../engine/backend.ts';
import {
  type Context,
  Llama,
  type LlamaConfig,
  type LlamaOptions,
  memoryNeeds,
  mergedSource,
  openAdapters,
  PrefixCache,
} from '../engine/index.ts';
import { diskFolder, openAdapterFolder, openModelFolder } from '../engine/node/index.ts';
import { decodeToF32 } from '../engine/safetensors/convert.ts';
import { type AdapterOptions, modulesOf, projections, writeAdapter } from './support/adapter-files.ts';
import { openTestDevice, type TestDevice, testDevices } from './support/devices.ts';
import { smallConfig, writeModelFolder } from './support/model-files.ts';
import { makeOracleAdapter, makeOracleModel, oracle, readWeights } from './support/oracle-models.ts';
import { largestDifference } from './support/tiny-guard.ts';

/** Of the largest magnitude: the project's bounds, and the rounding of f32 in another order of sums. */
const bounds = { f32: 1e-4, f16: 5e-3, order: 2e-5 };

const differenceOf = (own: ArrayLike<number>, expected: ArrayLike<number>) =>
  largestDifference(own, expected) / Math.max(...Array.from(expected, Math.abs));

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'adapters-'));
  for (const [name, { base }] of Object.entries(oracle.adapters)) {
    await makeOracleModel(base, join(root, base));
    await makeOracleAdapter(name, join(root, name));
  }
});
afterAll(() => rm(root, { recursive: true }));

/** A random model, and adapters for it. */
async function make(config: LlamaConfig, adapters: Readonly<Record<string, AdapterOptions>>): Promise<string> {
  const folder = join(root, String(folders++));
  await writeModelFolder(folder, config);
  for (const [name, options] of Object.entries(adapters)) await writeAdapter(join(folder, name), config, options);
  return folder;
}

interface Loading extends Partial<Omit<LlamaOptions, 'adapters'>> {
  /** Folders, by the names of adapters that are kept apart. */
  readonly apart?: Readonly<Record<string, string>>;
  /** The folder of one to be merged. */
  readonly merged?: string;
  readonly memoryBudget?: number;
}

const onDisk = (paths: Readonly<Record<string, string>>) =>
  Object.fromEntries(Object.entries(paths).map(([name, path]) => [name, diskFolder(path)]));

async function load(device: TestDevice, base: string, { apart = {}, merged, memoryBudget, ...options }: Loading = {}) {
  await using model = await openModelFolder(base);
  const { config } = model;
  await using kept = await openAdapters(onDisk(apart), config);
  await using others = await openAdapters(onDisk(merged === undefined ? {} : { merged }), config);
  const { adapters } = kept;
  const source = others.adapters.merged ? mergedSource(model.source, others.adapters.merged) : model.source;
  const backend = await openTestDevice(device, memoryBudget === undefined ? {} : { memoryBudget });
  const llama = await Llama.load(backend, config, source, { dtype: 'f32', adapters, ...options });
  return { backend, llama, needs: memoryNeeds(config, { dtype: 'f32', adapters, ...options }) };
}

async function logitsOf(llama: Llama, ids: readonly number[], adapter?: string): Promise<Float32Array> {
  using context = llama.createContext(adapter);
  const [rows] = await llama.logits([{ context, ids, wanted: [ids.length - 1] }]);
  return rows![0]!;
}

const prompt = (count: number, seed = 0) => Array.from({ length: count }, (_, i) => (i * 31 + seed * 17 + i * i) % 67);

/** Every kind of layer: biases before an adapter, and norms behind it. */
const families: Readonly<Record<string, LlamaConfig>> = {
  'Llama 2': smallConfig(),
  Qwen2: smallConfig({ attentionBias: 'queryKeyValue' }),
  Qwen3: smallConfig({ normalisesHeads: true, attentionBias: 'all' }),
  Mistral: smallConfig({ slidingWindows: [4, 4], numKeyValueHeads: 1 }),
};

describe.each(testDevices)('on %s', (device) => {
  describe.each(Object.entries(oracle.adapters))('the adapter %s', (name, { base, prompts }) => {
    it('agrees with the oracle where it is merged', async () => {
      const { llama } = await load(device, join(root, base), { merged: join(root, name) });
      await using _ = llama;
      for (const { ids, logits } of prompts) {
        expect(differenceOf(await logitsOf(llama, ids), logits)).toBeLessThan(bounds.f32);
      }
    });

    it('agrees with the oracle where it is kept apart, and so does the base beside it', async () => {
      const { llama } = await load(device, join(root, base), { apart: { own: join(root, name) } });
      await using _ = llama;
      const answers = [
        ...prompts.map((of) => ({ ...of, adapter: 'own' })),
        ...oracle.models[base]!.prompts.map((of) => ({ ...of, adapter: undefined })),
      ];
      const together = await Promise.all(answers.map(({ ids, adapter }) => logitsOf(llama, ids, adapter)));
      for (const [i, { ids, adapter, logits }] of answers.entries()) {
        expect(differenceOf(together[i]!, logits)).toBeLessThan(bounds.f32);
        expect(differenceOf(await logitsOf(llama, ids, adapter), logits)).toBeLessThan(bounds.f32);
      }
    });
  });

  it('the same request gives the same bits, whatever adapters went before it, and without one those of a plain model', async () => {
    const folder = await make(smallConfig(), {
      all: { targets: projections },
      some: { targets: ['k_proj', 'up_proj'] },
    });
    const apart = { all: join(folder, 'all'), some: join(folder, 'some') };
    const { llama } = await load(device, folder, { apart });
    const { llama: plain } = await load(device, folder);
    await using _llama = llama;
    await using _plain = plain;
    const ids = prompt(21);
    const first = new Map<string | undefined, Float32Array>();
    for (const adapter of ['all', undefined, 'some']) first.set(adapter, await logitsOf(llama, ids, adapter));
    for (const adapter of ['some', 'all', undefined, 'all']) {
      expect(await logitsOf(llama, ids, adapter)).toEqual(first.get(adapter));
    }
    expect(first.get(undefined)).toEqual(await logitsOf(plain, ids));
    expect(differenceOf(first.get('all')!, first.get(undefined)!)).toBeGreaterThan(0.1);
    expect(differenceOf(first.get('all')!, first.get('some')!)).toBeGreaterThan(0.1);
  });

  it.each(['f16', 'q8', 'q4'] as const)('stands beside weights in %s as in f32', async (dtype) => {
    const config = smallConfig({ hiddenSize: 64, intermediateSize: 96, headDim: 16 });
    const folder = await make(config, { all: { targets: projections, rank: 3 } });
    const apart = { all: join(folder, 'all') };
    const { llama: exact } = await load(device, folder, { apart });
    const { llama } = await load(device, folder, { apart, dtype });
    const { llama: merged } = await load(device, folder, { merged: apart.all, dtype });
    await using _exact = exact;
    await using _llama = llama;
    await using _merged = merged;
    const ids = prompt(30);
    const expected = await logitsOf(exact, ids, 'all');
    const own = differenceOf(await logitsOf(llama, ids, 'all'), expected);
    if (dtype === 'f16') expect(own).toBeLessThan(bounds.f16);
    // A merged one is rounded with the weights, which costs as much as rounding the weights alone, or more.
    expect(own).toBeLessThan(1.5 * differenceOf(await logitsOf(merged, ids), expected));
  });

  it('creates nothing once warmed up, takes the memory that was predicted, and gives all back', async () => {
    const config = smallConfig({ hiddenSize: 192, intermediateSize: 512, headDim: 48, maxPositionEmbeddings: 512 });
    const folder = await make(config, { all: { targets: projections, rank: 64 }, some: { rank: 2 } });
    const apart = { all: join(folder, 'all'), some: join(folder, 'some') };
    const { llama, backend, needs } = await load(device, folder, { apart });
    expect(needs.adapters).toBeGreaterThan(needs.total / 10);
    const round = async () => {
      for (const count of [60, 7, 1]) {
        await Promise.all(['all', undefined, 'some'].map((adapter) => logitsOf(llama, prompt(count), adapter)));
      }
    };
    await round();
    expect(llama.memory.peakBytes / needs.total).toBeGreaterThan(0.95);
    expect(llama.memory.peakBytes / needs.total).toBeLessThan(1.05);
    const { buffersCreated, pipelinesCreated, liveBytes } = llama.memory;
    await round();
    expect(llama.memory).toMatchObject({ buffersCreated, pipelinesCreated, liveBytes });
    await llama[Symbol.asyncDispose]();
    expect(backend.memory.liveBytes).toBe(0);
  });
});

const adapterOptions: fc.Arbitrary<AdapterOptions> = fc.record({
  targets: fc.subarray([...projections], { minLength: 1 }),
  rank: fc.integer({ min: 1, max: 9 }),
  alpha: fc.integer({ min: 1, max: 16 }),
  seed: fc.nat(1000),
  layers: fc.constantFrom([0, 1], [0], [1]),
  dtype: fc.constantFrom('F32', 'F16', 'BF16'),
  fields: fc.record({ use_rslora: fc.boolean() }),
});

describe('an adapter that is kept apart', () => {
  it.each(Object.entries(families))('is the merged one within the rounding of sums: %s', async (_, config) => {
    const modules = [...modulesOf(config).keys()];
    await fc.assert(
      fc.asyncProperty(
        adapterOptions,
        fc.constantFrom(...modules),
        fc.integer({ min: 1, max: 12 }),
        async (of, odd, r) => {
          const folder = await make(config, { own: { ...of, ranks: { [odd]: r } } });
          const { llama: apart } = await load('cpu', folder, { apart: { own: join(folder, 'own') } });
          const { llama: merged } = await load('cpu', folder, { merged: join(folder, 'own') });
          await using _apart = apart;
          await using _merged = merged;
          const expected = await logitsOf(merged, prompt(19));
          expect(differenceOf(await logitsOf(apart, prompt(19), 'own'), expected)).toBeLessThan(bounds.order);
        },
      ),
      { numRuns: 6 },
    );
  });

  it('costs two operations for each fused matrix, and one more for a gate; others pay nothing', async () => {
    const folder = await make(smallConfig(), {
      all: { targets: projections },
      attention: { targets: ['q_proj', 'v_proj'] },
    });
    const { llama, backend } = await load('cpu', folder, {
      apart: { all: join(folder, 'all'), attention: join(folder, 'attention') },
    });
    await using _ = llama;
    const record = vi.spyOn(backend, 'record');
    for (const adapter of [undefined, 'attention', 'all']) await logitsOf(llama, prompt(3), adapter);
    const operations = record.mock.results.map(({ value }) => (value as Recording).operations);
    // Two layers: of queries, keys and values; or of four matrices, and the gate by itself.
    expect(operations).toEqual([21, 21 + 2 * 2, 21 + 2 * (4 * 2 + 1)]);
  });

  it('is known by its name, and by no other', async () => {
    const folder = await make(smallConfig(), { own: {} });
    const { llama } = await load('cpu', folder, { apart: { own: join(folder, 'own') } });
    const { llama: plain } = await load('cpu', folder);
    await using _llama = llama;
    await using _plain = plain;
    expect(llama.adapters).toEqual(['own']);
    expect(() => llama.createContext('other')).toThrow(/no adapter 'other'.* there are own/);
    expect(() => plain.createContext('own')).toThrow(/no adapter 'own'.* there is none/);
    using prefixes = new PrefixCache(llama);
    await expect(prefixes.logits([1, 2], { adapter: 'toString' })).rejects.toMatchObject({ code: 'invalid-argument' });
  });

  it('is counted where memory does not suffice', async () => {
    const folder = await make(smallConfig(), { own: { targets: projections, rank: 512 } });
    const apart = { own: join(folder, 'own') };
    const refused = load('cpu', folder, { apart, memoryBudget: 2 ** 20, cacheTokens: 10, passTokens: 4 });
    await expect(refused).rejects.toThrow(/needs .*\(adapters .* MiB, .*Use fewer adapters/);
  });

  it.skipIf(!testDevices.includes('webgpu'))('is computed alike once kernels were measured', async () => {
    const folder = await make(smallConfig(), { own: { targets: projections, rank: 16 } });
    const { llama } = await load('webgpu', folder, { apart: { own: join(folder, 'own') }, passTokens: 8 });
    await using _ = llama;
    const before = await logitsOf(llama, prompt(8), 'own');
    const told: number[] = [];
    await llama.tune({ onProgress: ({ done, total }) => told.push(done / total) });
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    expect(differenceOf(await logitsOf(llama, prompt(8), 'own'), before)).toBeLessThan(bounds.order);
  });

  it('is refused in f16 where it has numbers beyond its range', async () => {
    const folder = await make(smallConfig(), { large: { alpha: 2 ** 20, rank: 1 } });
    const apart = { large: join(folder, 'large') };
    await expect(load('cpu', folder, { apart, dtype: 'f16' })).rejects.toMatchObject({ code: 'dtype-unsupported' });
    const { llama } = await load('cpu', folder, { apart });
    await llama[Symbol.asyncDispose]();
  });
});

describe.each(testDevices.filter((device) => device !== 'webgpu without features'))('requests on %s', (device) => {
  const names = [undefined, 'all', 'some'] as const;
  let llama: Llama;
  let passes: ReturnType<typeof vi.spyOn>;
  beforeAll(async () => {
    const folder = await make(smallConfig(), { all: { targets: projections }, some: { seed: 2, rank: 7 } });
    const apart = { all: join(folder, 'all'), some: join(folder, 'some') };
    const loaded = await load(device, folder, { apart, passTokens: 16, cacheTokens: 500 });
    llama = loaded.llama;
    passes = vi.spyOn(loaded.backend, 'replay');
  });
  afterAll(() => llama[Symbol.asyncDispose]());

  const sequence = fc.record({
    adapter: fc.constantFrom(...names),
    seed: fc.nat(3),
    calls: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 3 }),
    forks: fc.boolean(),
  });

  it('through several adapters give what they give alone, however they interleave', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(sequence, { minLength: 2, maxLength: 8 }), fc.nat(), async (sequences, order) => {
        const asked = sequences.map((of) => {
          const total = of.calls.reduce((a, b) => a + b, 0);
          return {
            ...of,
            ids: prompt(total, of.seed),
            left: [...of.calls],
            at: 0,
            context: llama.createContext(of.adapter),
          };
        });
        const answers: Promise<Float32Array>[] = [];
        for (let turn = order; asked.some(({ left }) => left.length > 0); turn++) {
          const one = asked[turn % asked.length]!;
          const count = one.left.shift();
          if (count === undefined) continue;
          const input = { context: one.context, ids: one.ids.slice(one.at, one.at + count), wanted: [count - 1] };
          answers[asked.indexOf(one)] = llama.logits([input]).then(([rows]) => rows![0]!);
          one.at += count;
          if (!one.forks) continue;
          const fork: Context = one.context.fork();
          one.context[Symbol.dispose]();
          one.context = fork;
        }
        const got = await Promise.all(answers);
        for (const { context } of asked) context[Symbol.dispose]();
        expect(llama.freeCacheTokens).toBe(500);
        for (const [i, { ids, adapter }] of asked.entries()) {
          expect(differenceOf(got[i]!, await logitsOf(llama, ids, adapter))).toBeLessThan(bounds.f32);
        }
      }),
      { numRuns: device === 'cpu' ? 40 : 10 },
    );
  });

  it('through one adapter share passes, whatever waits between them', async () => {
    passes.mockClear();
    await Promise.all(Array.from({ length: 9 }, (_, i) => logitsOf(llama, prompt(3, i), names[i % 3])));
    expect(passes).toHaveBeenCalledTimes(3);
  });

  it('of one call may go through several adapters', async () => {
    const contexts = names.map((adapter) => llama.createContext(adapter));
    const rows = await llama.logits(contexts.map((context) => ({ context, ids: prompt(5), wanted: [1, 4] })));
    for (const [i, context] of contexts.entries()) {
      expect(rows[i]).toHaveLength(2);
      expect(differenceOf(rows[i]![1]!, await logitsOf(llama, prompt(5), names[i]))).toBeLessThan(bounds.f32);
      context[Symbol.dispose]();
    }
  });

  it('find prompts that were read through the same adapter, and no others', async () => {
    using prefixes = new PrefixCache(llama);
    const cached = async (adapter: string | undefined, count = 20) => {
      using reading = await prefixes.logits(prompt(count), { adapter });
      expect(differenceOf(reading.rows[0]!, await logitsOf(llama, prompt(count), adapter))).toBeLessThan(bounds.f32);
      return reading.cached;
    };
    for (const adapter of names) expect(await cached(adapter)).toBe(0);
    for (const adapter of names) expect(await cached(adapter, 30)).toBe(19);
    expect(llama.freeCacheTokens).toBe(500 - 3 * 29);
    prefixes[Symbol.dispose]();
    expect(llama.freeCacheTokens).toBe(500);
  });
});

describe('merging', () => {
  it.each(['F32', 'F16', 'BF16'] as const)(
    'is W + scale B A, in chunks of any size, of weights in %s',
    async (dtype) => {
      // Odd numbers of rows, and ranks that are no whole groups.
      const config = smallConfig({
        hiddenSize: 26,
        intermediateSize: 41,
        headDim: 10,
        numAttentionHeads: 2,
        numKeyValueHeads: 1,
      });
      const folder = join(root, String(folders++));
      await writeModelFolder(folder, config, { dtype });
      await writeAdapter(join(folder, 'own'), config, { targets: projections, rank: 5, alpha: 7 });
      await using model = await openModelFolder(folder);
      await using adapter = await openAdapterFolder(join(folder, 'own'), config);
      const merged = mergedSource(model.source, adapter);
      const weights = await readWeights(folder);
      const updates = await readWeights(join(folder, 'own'), 'adapter_model.safetensors');
      for (const [module, [outputs, inputs]] of modulesOf(config)) {
        const [a, b] = ['A', 'B'].map((letter) => updates.get(`base_model.model.${module}.lora_${letter}.weight`)!);
        const expected = weights.get(`${module}.weight`)!.map((w, i) => {
          const [row, column] = [Math.floor(i / inputs), i % inputs];
          let sum = 0;
          for (let r = 0; r < 5; r++) sum += b![row * 5 + r]! * a![r * inputs + column]!;
          return w + (7 / 5) * sum;
        });
        const info = merged.tensors.get(`${module}.weight`)!;
        expect(info).toMatchObject({ dtype: 'F32', shape: [outputs, inputs] });
        for (const chunkBytes of [1, 8 * inputs, 24 * inputs, 2 ** 20]) {
          const values: number[] = [];
          for await (const chunk of merged.read(`${module}.weight`, { chunkBytes }))
            values.push(...decodeToF32(chunk, 'F32'));
          expect(values).toHaveLength(outputs * inputs);
          expect(info.end - info.begin).toBe(4 * values.length);
          expect(differenceOf(values, expected)).toBeLessThan(1e-6);
        }
      }
      expect(merged.tensors.get('model.norm.weight')).toEqual(model.source.tensors.get('model.norm.weight'));
    },
  );

  it('into weights that are no floats is refused by their name', async () => {
    const folder = await make(smallConfig(), { own: {} });
    await using model = await openModelFolder(folder);
    await using adapter = await openAdapterFolder(join(folder, 'own'), model.config);
    const matrix = 'model.layers.1.self_attn.v_proj.weight';
    const packed = new Map(model.source.tensors).set(matrix, { ...model.source.tensors.get(matrix)!, dtype: 'I32' });
    const absent = new Map(model.source.tensors);
    absent.delete(matrix);
    for (const tensors of [packed, absent]) {
      const source = { ...model.source, tensors, read: model.source.read, totalBytes: 0 };
      expect(() => mergedSource(source, adapter)).toThrow(/v_proj.weight.*keep the adapter apart/);
    }
  });
});
