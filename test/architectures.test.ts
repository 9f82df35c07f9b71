/** Every architecture against test/oracles/architectures.json, on every device; and this project's own float64 forward pass. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Llama, Session } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/index.ts';
import { ropeFrequencies } from '../kernels/rope-and-cache/tables.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { float64Forward } from './support/float64-forward.ts';
import { makeOracleAdapter, makeOracleModel, oracle, readWeights } from './support/oracle-models.ts';
import { largestDifference } from './support/tiny-guard.ts';

const models = Object.keys(oracle.models);

/** Of the largest magnitude: the project's bound for f32, and what float64 leaves of ten digits. */
const bounds = { f32: 1e-4, float64: 1e-9 };

const differenceOf = (own: ArrayLike<number>, expected: readonly number[]) =>
  largestDifference(own, expected) / Math.max(...expected.map(Math.abs));

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'architectures-'));
  for (const name of models) await makeOracleModel(name, join(root, name));
  for (const name of Object.keys(oracle.adapters)) await makeOracleAdapter(name, join(root, name));
});
afterAll(() => rm(root, { recursive: true }));

describe.each(testDevices)('on %s', (device) => {
  describe.each(models)('%s', (name) => {
    const { prompts, states, finalNorm } = oracle.models[name]!;
    let llama: Llama;
    beforeAll(async () => {
      await using folder = await openModelFolder(join(root, name));
      llama = await Llama.load(await openTestDevice(device), folder.config, folder.source, { dtype: 'f32' });
    });
    afterAll(() => llama[Symbol.asyncDispose]());

    it.each(prompts.map((prompt) => ({ ...prompt, length: prompt.ids.length })))(
      'agrees with the oracle on a prompt of $length',
      async ({ ids, logits, greedy }) => {
        using session = new Session(llama);
        expect(differenceOf(await session.prefill(ids, greedy.length), logits)).toBeLessThan(bounds.f32);
        expect(await session.generate({ maxTokens: greedy.length })).toEqual(greedy);
      },
    );

    it('agrees layer by layer', async () => {
      const { ids } = prompts.at(-1)!;
      using context = llama.createContext();
      const seen: Promise<ArrayLike<number>>[] = [];
      await llama.logits([{ context, ids, wanted: [ids.length - 1] }], (_point, _x, read) => {
        seen.push(read());
      });
      const expected = [...states, finalNorm];
      expect(seen).toHaveLength(expected.length);
      for (const [point, rows] of seen.entries()) {
        const last = Array.from(await rows).slice(-llama.config.hiddenSize);
        expect(differenceOf(last, expected[point]!), `point ${point}`).toBeLessThan(bounds.f32);
      }
    });
  });
});

describe("this project's float64 forward pass", () => {
  const check = async (
    base: string,
    weights: ReadonlyMap<string, Float64Array>,
    name: 'models' | 'adapters',
    key: string,
  ) => {
    await using folder = await openModelFolder(join(root, base));
    for (const { ids, logits } of oracle[name][key]!.prompts) {
      expect(differenceOf(float64Forward(folder.config, weights, ids).at(-1)!, logits)).toBeLessThan(bounds.float64);
    }
  };

  it.each(models)('agrees with the oracle: %s', async (name) => {
    await check(name, await readWeights(join(root, name)), 'models', name);
  });

  it.each(Object.keys(oracle.adapters))('agrees with the oracle on an adapter that is merged: %s', async (name) => {
    const { base, lora } = oracle.adapters[name]!;
    const weights = new Map(await readWeights(join(root, base)));
    const adapter = await readWeights(join(root, name), 'adapter_model.safetensors');
    const [rank, alpha] = ['rank', 'alpha'].map((field) => Number(new RegExp(`${field}=(\\d+)`).exec(lora)![1]));
    const scale = alpha! / (lora.endsWith('rslora') ? Math.sqrt(rank!) : rank!);
    for (const [key, down] of adapter) {
      if (!key.endsWith('.lora_A.weight')) continue;
      const up = adapter.get(key.replace('lora_A', 'lora_B'))!;
      const target = key.replace('base_model.model.', '').replace('lora_A.', '');
      weights.set(target, addProduct(weights.get(target)!, up, down, rank!, scale));
    }
    await check(base, weights, 'adapters', name);
  });
});

describe("the oracle's tables of RoPE", () => {
  const scalings = {
    'llama-guard-3-8b': { headDim: 128, factor: 8 },
    'llama-guard-3-1b': { headDim: 64, factor: 32 },
  } as const;

  it.each(Object.entries(scalings))('are those of the formula, band by band: %s', (name, { headDim, factor }) => {
    const { positions, inverseFrequencies, cos, sin } = oracle.rope[name]!;
    expect(inverseFrequencies).toHaveLength(headDim / 2);
    const scaling = {
      type: 'llama3',
      factor,
      lowFrequencyFactor: 1,
      highFrequencyFactor: 4,
      originalMaxPositionEmbeddings: 8192,
    } as const;
    const own = ropeFrequencies(headDim, 500_000, scaling);
    const [original, low, high] = [8192, 1, 4];
    for (const [i, came] of inverseFrequencies.entries()) {
      const plain = 500_000 ** ((-2 * i) / headDim);
      const wavelength = (2 * Math.PI) / plain;
      const smooth = (original / wavelength - low) / (high - low);
      const between = ((1 - smooth) * plain) / factor + smooth * plain;
      const expected = wavelength < original / high ? plain : wavelength > original / low ? plain / factor : between;
      expect(came / expected).toBeCloseTo(1, 9);
      expect(own[i]! / came).toBeCloseTo(1, 9);
      for (const [row, position] of positions.entries()) {
        expect(cos[row]![i]).toBeCloseTo(Math.cos(position * expected), 8);
        expect(sin[row]![i]).toBeCloseTo(Math.sin(position * expected), 8);
      }
    }
  });
});

/** `w + scale * up down`, with up (outputs, rank) and down (rank, inputs). */
function addProduct(w: Float64Array, up: Float64Array, down: Float64Array, rank: number, scale: number): Float64Array {
  const inputs = down.length / rank;
  return w.map((value, i) => {
    const [output, input] = [Math.floor(i / inputs), i % inputs];
    let sum = 0;
    for (let r = 0; r < rank; r++) sum += up[output * rank + r]! * down[r * inputs + input]!;
    return value + scale * sum;
  });
}
