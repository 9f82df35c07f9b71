import { expect, it, vi } from 'vitest';
import { create } from 'webgpu';
import type { Recording } from '../engine/backend.ts';
import { Llama, type LlamaConfig, memoryNeeds, Session } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';
import { largestDifference } from './support/tiny-guard.ts';

const config = smallConfig({ vocabularySize: 300, maxPositionEmbeddings: 256 });
const prompt = (count: number) => Array.from({ length: count }, (_, i) => (i * 31 + 17) % 300);

/** Counts what is asked of the devices that it opens. */
function watchedGpu() {
  const counts = { encoders: 0, passes: 0, submits: 0, bindGroups: 0, buffers: 0, destroyed: 0, pipelines: 0 };
  const gpu = create([]);
  const open = gpu.requestAdapter.bind(gpu);
  vi.spyOn(gpu, 'requestAdapter').mockImplementation(async (options) => {
    const adapter = (await open(options))!;
    const request = adapter.requestDevice.bind(adapter);
    vi.spyOn(adapter, 'requestDevice').mockImplementation(async (descriptor) => {
      const device = await request(descriptor);
      const count = <T extends object, K extends keyof T & string>(of: T, method: K, name: keyof typeof counts) => {
        const original = (of[method] as (...args: unknown[]) => unknown).bind(of);
        Object.defineProperty(of, method, {
          value: (...args: unknown[]) => {
            counts[name]++;
            return original(...args);
          },
        });
      };
      count(device, 'createBindGroup', 'bindGroups');
      const createBuffer = device.createBuffer.bind(device);
      Object.defineProperty(device, 'createBuffer', {
        value: (descriptor: GPUBufferDescriptor) => {
          counts.buffers++;
          const buffer = createBuffer(descriptor);
          const destroy = buffer.destroy.bind(buffer);
          const alive = { destroyed: false };
          Object.defineProperty(buffer, 'destroy', {
            value: () => {
              if (!alive.destroyed) counts.destroyed++;
              alive.destroyed = true;
              destroy();
            },
          });
          return buffer;
        },
      });
      count(device, 'createComputePipeline', 'pipelines');
      count(device.queue, 'submit', 'submits');
      const createEncoder = device.createCommandEncoder.bind(device);
      Object.defineProperty(device, 'createCommandEncoder', {
        value: () => {
          counts.encoders++;
          const encoder = createEncoder();
          count(encoder, 'beginComputePass', 'passes');
          return encoder;
        },
      });
      return device;
    });
    return adapter;
  });
  return { gpu, counts };
}

it.skipIf(!testDevices.includes('webgpu'))('a forward pass is one encoder, one pass and one submit', async () => {
  const { gpu, counts } = watchedGpu();
  const { llama } = await loadRandomModel(config, 'webgpu', { gpu });
  await using _ = llama;
  const check = async (count: number) => {
    using context = llama.createContext();
    await llama.logProbabilities([{ context, ids: prompt(count), wanted: [count - 1] }], [1, 2]);
  };
  await check(66);
  const before = { ...counts };
  // 72 rows hold either.
  await check(66);
  await check(71);
  const done = Object.fromEntries(
    Object.entries(counts).map(([name, n]) => [name, n - before[name as keyof typeof counts]]),
  );
  expect(done).toEqual({ encoders: 2, passes: 2, submits: 2, bindGroups: 0, buffers: 0, destroyed: 0, pipelines: 0 });
});

it.skipIf(!testDevices.includes('webgpu'))('disposal destroys every buffer that was made', async () => {
  const { gpu, counts } = watchedGpu();
  const { llama } = await loadRandomModel(config, 'webgpu', { gpu });
  using session = new Session(llama);
  await session.prefill(prompt(20));
  await session.generate({ maxTokens: 3 });
  expect(counts.destroyed).toBeLessThan(counts.buffers);
  await llama[Symbol.asyncDispose]();
  expect(counts.destroyed).toBe(counts.buffers);
});

it.each(testDevices)(
  'more shapes than are kept give the same results again, and keep memory bounded on %s',
  async (device) => {
    const { llama } = await loadRandomModel(config, device);
    await using _ = llama;
    const logits = async (count: number) => {
      using session = new Session(llama);
      return await session.prefill(prompt(count));
    };
    const counts = Array.from({ length: 80 }, (_, i) => i + 1);
    const first: Float32Array[] = [];
    for (const count of counts) first.push(await logits(count));
    // So many batches at once that some shape of every kind gives way.
    const many = async () => {
      for (const sequences of [1, 2, 4, 8]) {
        for (const tokens of counts) {
          const contexts = Array.from({ length: sequences }, () => llama.createContext());
          await llama.prefill(contexts.map((context) => ({ context, ids: prompt(Math.ceil(tokens / sequences)) })));
          for (const context of contexts) context[Symbol.dispose]();
        }
      }
    };
    await many();
    const { liveBytes } = llama.memory;
    await many();
    expect(llama.memory.liveBytes).toBe(liveBytes);
    for (const [i, count] of counts.entries()) {
      expect(Array.from(await logits(count)), `${count} tokens`).toEqual(Array.from(first[i]!));
    }
  },
);

it.each(testDevices)('what pads a batch is kept nowhere on %s', async (device) => {
  const { llama } = await loadRandomModel(config, device, { cacheTokens: 80 });
  await using _ = llama;
  using neighbour = new Session(llama);
  const before = await neighbour.prefill(prompt(6));
  using filler = new Session(llama);
  // Slots 6 to 72 of 80 are taken by 67 tokens, which are padded to 72 rows.
  await filler.prefill(prompt(67));
  using again = llama.createContext();
  const [[row]] = (await llama.logits([{ context: again, ids: prompt(6), wanted: [5] }])) as [[Float32Array]];
  expect(largestDifference(row, before)).toBeLessThan(1e-6);
  // The neighbour's keys and values are as they were.
  const next = await neighbour.prefill([9]);
  using alone = new Session(llama);
  filler[Symbol.dispose]();
  again[Symbol.dispose]();
  await alone.prefill(prompt(6));
  expect(largestDifference(await alone.prefill([9]), next)).toBeLessThan(1e-6);
});

it.each(testDevices)(
  'takes the memory that was predicted, within a twentieth, for the embedded model on %s',
  async (device) => {
    await using opened = await openModelFolder(embeddedModel);
    for (const dtype of ['f32', 'q8'] as const) {
      const backend = await openTestDevice(device);
      await using llama = await Llama.load(backend, opened.config, opened.source, { dtype });
      for (const count of [294, 66, 1]) {
        using context = llama.createContext();
        await llama.logProbabilities([{ context, ids: prompt(count), wanted: [count - 1] }], [1, 2]);
      }
      const { total, weights, cache } = memoryNeeds(opened.config, { dtype });
      expect(llama.memory.peakBytes / total).toBeGreaterThan(0.95);
      expect(llama.memory.peakBytes / total).toBeLessThan(1.05);
      // What is neither weights nor cache is little, though this model is so small.
      if (dtype === 'f32') expect(total / (weights + cache)).toBeLessThan(1.1);
    }
  },
);

it.each<[string, number, Partial<LlamaConfig>]>([
  ['Llama 2', 21, {}],
  ['Mistral', 21, { slidingWindows: [4, 4] }],
  ['Qwen2', 23, { attentionBias: 'queryKeyValue' }],
  ['Qwen3', 23, { normalisesHeads: true }],
])('a pass of two layers of %s is %i operations', async (_, operations, own) => {
  const { llama, backend } = await loadRandomModel(smallConfig(own), 'cpu');
  await using _llama = llama;
  const record = vi.spyOn(backend, 'record');
  using session = new Session(llama);
  await session.prefill([1, 2, 3]);
  expect((record.mock.results[0]!.value as Recording).operations).toBe(operations);
});
