import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { DeviceError, Session, type WebGpuBackend } from '../engine/index.ts';
import { readTuning, tuneOnce, tuningKey, tuningPath, writeTuning } from '../engine/node/index.ts';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { type Tunable, tune as tuneKernels } from '../engine/webgpu/tune.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { testDevices } from './support/devices.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';
import { largestDifference } from './support/tiny-guard.ts';

const cache = await mkdtemp(join(tmpdir(), 'guard-tuning-'));
const before = process.env.LLAMA_GUARD_CACHE;
afterAll(async () => {
  if (before === undefined) delete process.env.LLAMA_GUARD_CACHE;
  else process.env.LLAMA_GUARD_CACHE = before;
  await rm(cache, { recursive: true });
});
beforeEach(async () => {
  process.env.LLAMA_GUARD_CACHE = await mkdtemp(join(cache, 'of-a-test-'));
});

describe('kept kernel choices', () => {
  const key = { adapter: 'an adapter', driver: 'driver 1', kernels: 'abc' };
  const choices = new Map([['matmul f32/f32/f32 rows=64', 'vec4']]);
  const read = async (wanted: typeof key) => {
    const warnings: string[] = [];
    return { choices: await readTuning(wanted, (message) => warnings.push(message)), warnings };
  };

  it('come back for the same adapter, driver and kernels', async () => {
    const path = await writeTuning(key, choices);
    expect(path).toBe(tuningPath(key));
    expect(await read(key)).toEqual({ choices, warnings: [] });
    expect(await read({ ...key, adapter: 'another' })).toEqual({ choices: undefined, warnings: [] });
  });

  it.each([
    [{ driver: 'driver 2' }, /another driver/],
    [{ kernels: 'abd' }, /another kernels/],
    [{ driver: 'driver 2', kernels: 'abd' }, /another driver and kernels/],
  ])('of something else are told of and ignored: %j', async (other, message) => {
    await writeTuning(key, choices);
    const found = await read({ ...key, ...other });
    expect(found.choices).toBeUndefined();
    expect(found.warnings).toEqual([expect.stringMatching(message)]);
    // Tuning again replaces them.
    await writeTuning({ ...key, ...other }, choices);
    expect(await read({ ...key, ...other })).toEqual({ choices, warnings: [] });
  });

  it.each(['', '{', '[]', '{"version":2}', '{"version":1,"adapter":"an adapter","driver":1}'])(
    'that are broken are told of and ignored: %j',
    async (text) => {
      await writeTuning(key, choices);
      await writeFile(tuningPath(key), text);
      const found = await read(key);
      expect(found.choices).toBeUndefined();
      expect(found.warnings).toEqual([expect.stringMatching(/cannot be read and are ignored/)]);
    },
  );
});

it('are kept among temporary files for a user without a home', () => {
  delete process.env.LLAMA_GUARD_CACHE;
  vi.stubEnv('XDG_CACHE_HOME', '');
  const homeless = () => {
    throw new Error('uv_os_homedir returned ENOENT');
  };
  const key = { adapter: 'an adapter', driver: 'driver 1', kernels: 'abc' };
  expect(tuningPath(key, homeless)).toContain(join(tmpdir(), 'llama-guard-webgpu'));
  vi.unstubAllEnvs();
});

describe.runIf(testDevices.includes('webgpu'))('tuning', () => {
  const config = smallConfig({ hiddenSize: 64, intermediateSize: 96, vocabularySize: 300 });
  // One operation is enough: each variant that is tried takes software Vulkan a second or two to compile.
  const prefer = { 'matmul-add': 'portable', 'gated-matmul': 'portable', attention: 'portable' };
  const sizes = { passTokens: 8, contextLength: 64, prefer };
  const prompt = Array.from({ length: 8 }, (_, i) => (i * 31) % 300);

  it('measures what is not known, is used at once and at the next load, and changes no result', async () => {
    const { llama, backend } = await loadRandomModel(config, 'webgpu', sizes);
    await using _ = llama;
    const logits = async () => {
      using session = new Session(llama);
      return await session.prefill(prompt);
    };
    const untuned = await logits();
    const told: number[] = [];
    await tuneOnce(llama, backend, { onProgress: ({ done, total }) => told.push(done / total) });
    expect(told.at(-1)).toBe(1);
    expect(told).toEqual([...told].sort((a, b) => a - b));
    expect(largestDifference(await logits(), untuned)).toBeLessThan(1e-4);
    expect(llama.freeCacheTokens).toBe(llama.cacheTokens);

    const own = backend as WebGpuBackend;
    expect(own.choices.size).toBeGreaterThan(0);
    await using next = await openWebGpu();
    expect(next.choices).toEqual(own.choices);
    await using ignoring = await openWebGpu({ tuning: 'ignore' });
    expect(ignoring.choices.size).toBe(0);

    // What is known is not measured again.
    const again: string[] = [];
    await tuneOnce(llama, backend, { onProgress: ({ choice }) => again.push(choice) });
    expect(again).toEqual([]);
    const kept = JSON.parse(await readFile(tuningPath(await tuningKey(own)), 'utf8'));
    expect(Object.keys(kept.choices)).toHaveLength(own.choices.size);
  });

  it('serves this load alone where its choices cannot be kept, and says so', async () => {
    const { llama, backend } = await loadRandomModel(config, 'webgpu', sizes);
    await using _ = llama;
    await writeFile(join(process.env.LLAMA_GUARD_CACHE!, 'a file'), '');
    process.env.LLAMA_GUARD_CACHE = join(process.env.LLAMA_GUARD_CACHE!, 'a file');
    const warnings: string[] = [];
    await tuneOnce(llama, backend, {}, (message) => warnings.push(message));
    expect(warnings).toEqual([expect.stringMatching(/cannot be kept in .* \(EEXIST\), so they serve this load alone/)]);
    expect((backend as WebGpuBackend).choices.size).toBeGreaterThan(0);
  });

  it('stops when told, and leaves the model usable', async () => {
    const { llama, backend } = await loadRandomModel(config, 'webgpu', sizes);
    await using _ = llama;
    const stop = new AbortController();
    const tuning = llama.tune({ signal: stop.signal, onProgress: () => stop.abort(new Error('enough')) });
    await expect(tuning).rejects.toThrow('enough');
    // That of the class that was measured to the end.
    expect((backend as WebGpuBackend).choices.size).toBe(1);
    using session = new Session(llama);
    expect(await session.prefill(prompt)).toHaveLength(300);
    expect(llama.freeCacheTokens).toBe(llama.cacheTokens - prompt.length);
  });

  it('gives way to a variant that is asked for by name', async () => {
    await using backend = await openWebGpu({ tuning: 'ignore', prefer: { matmul: 'portable' } });
    const dtypes = { x: 'f32', weight: 'f32', out: 'f32' } as const;
    const dims = { rows: 64, inputs: 64, block: 64, outputs: 64 };
    expect(backend.choose(matmul, dims, dtypes, { firstOutput: 0 }).name).toBe('portable');
  });
});

it('measures again what it was stopped in', async () => {
  const choices = new Map<string, string>();
  let stopAt: string | undefined = 'B fast';
  const measured: string[] = [];
  const backend: Tunable = {
    choices,
    setChoice: (shapes, variant) => {
      if (variant === undefined) choices.delete(shapes);
      else choices.set(shapes, variant);
    },
    alternatives: () => new Map(['A', 'B'].map((shapes) => [shapes, ['slow', 'fast']])),
    record: () => ({ operations: 1, [Symbol.dispose]() {} }),
    replay: () => {
      measured.push([...choices].at(-1)!.join(' '));
      if (measured.at(-1) === stopAt) throw new DeviceError('device-failure', 'The device is tired.');
    },
    finish: () => new Promise((resolve) => setTimeout(resolve, measured.at(-1)!.endsWith('slow') ? 8 : 1)),
  };
  await expect(tuneKernels(backend, () => {})).rejects.toMatchObject({ code: 'device-failure' });
  expect([...choices]).toEqual([['A', 'fast']]);
  stopAt = undefined;
  measured.length = 0;
  await tuneKernels(backend, () => {});
  expect(new Set(measured)).toEqual(new Set(['B slow', 'B fast']));
  expect(choices.get('B')).toBe('fast');
});

it('leaves the processor alone, where there is no choice', async () => {
  const { llama } = await loadRandomModel(smallConfig(), 'cpu');
  await using _ = llama;
  expect(await llama.tune()).toBeUndefined();
});
