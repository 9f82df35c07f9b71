/** Folders of quantised builds, loaded and computed, against float64 on the weights that plain loops decode of them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lookUp } from '../bench/make-model/catalogue.ts';
import type { HuggingFaceConfig } from '../bench/make-model/config.ts';
import { type QuantisedFormatName, quantisedFormats, writeModelFolder } from '../bench/make-model/index.ts';
import { projectionsOf } from '../bench/make-model/tensors.ts';
import { Llama, type LlamaConfig, memoryNeeds, mergedSource, type WeightDType } from '../engine/index.ts';
import { openAdapterFolder, openModelFolder } from '../engine/node/disk-folder.ts';
import { resolveDType } from '../guard/assemble.ts';
import { modelHash } from '../guard/identity.ts';
import { writeAdapter } from './support/adapter-files.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { float64Forward } from './support/float64-forward.ts';
import { decoders } from './support/quantised-peer.ts';
import { floatsOf, readFileWithPeer } from './support/safetensors-peer.ts';
import { largestDifference } from './support/tiny-guard.ts';

/** Biases, grouped heads, and inputs of several groups of 128. */
const config: HuggingFaceConfig = {
  ...lookUp('tiny-qwen2.5').config,
  hidden_size: 256,
  head_dim: 64,
  num_attention_heads: 4,
  intermediate_size: 384,
  tie_word_embeddings: false,
};
const ids = Array.from({ length: 24 }, (_, i) => (i * 37 + 11) % config.vocab_size);

/** What a build's own dtype may be off by, of the largest logit. */
const bounds: Readonly<Record<QuantisedFormatName, { readonly dtype: WeightDType; readonly bound: number }>> = {
  // Zero points are 8: a minimum is 8 scales, which f16 holds.
  gptq: { dtype: 'q4', bound: 1e-4 },
  // A minimum is rounded to f16: by some 0.4% of a step at most.
  awq: { dtype: 'q4', bound: 1e-3 },
  // Exact; the processor rounds activations to sixteen bits.
  'compressed-int8': { dtype: 'q8', bound: 3e-4 },
  // Rounded once more, as any float is in q8.
  'compressed-fp8': { dtype: 'q8', bound: 2e-2 },
};

const names = Object.keys(quantisedFormats) as QuantisedFormatName[];
let root: string;
/** The weights of a build by plain loops, and their logits at the last position. */
const expected = new Map<QuantisedFormatName, Float64Array>();

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'quantised-models-'));
  for (const name of names) {
    const folder = join(root, name);
    await writeModelFolder(folder, config, { quantised: name, seed: 3 });
    const tensors = await readFileWithPeer(join(folder, 'model.safetensors'));
    const weights = new Map<string, Float64Array>();
    for (const [tensor, data] of tensors) {
      if (['F16', 'BF16'].includes(data.dtype)) weights.set(tensor, floatsOf(data));
    }
    for (let layer = 0; layer < config.num_hidden_layers; layer++) {
      for (const [projection, [outputs, inputs]] of Object.entries(projectionsOf(config))) {
        const module = `model.layers.${layer}.${projection}`;
        const decode = decoders[name]((part) => tensors.get(`${module}.${part}`)!, outputs, inputs);
        const values = Float64Array.from({ length: outputs * inputs }, (_, i) => {
          return decode(Math.floor(i / inputs), i % inputs).value;
        });
        weights.set(`${module}.weight`, values);
      }
    }
    await using opened = await openModelFolder(folder);
    expected.set(name, float64Forward(opened.config, weights, ids).at(-1)!);
  }
});
afterAll(() => rm(root, { recursive: true }));

describe.each(testDevices.filter((device) => device !== 'webgpu without features'))('on %s', (device) => {
  const compute = async (name: QuantisedFormatName, dtype?: WeightDType) => {
    await using opened = await openModelFolder(join(root, name));
    const resolved = dtype ?? resolveDType('auto', opened);
    const backend = await openTestDevice(device);
    await using llama = await Llama.load(backend, opened.config, opened.source, { dtype: resolved });
    using context = llama.createContext();
    const [[logits]] = (await llama.logits([{ context, ids, wanted: [ids.length - 1] }])) as [[Float32Array]];
    const largest = Math.max(...expected.get(name)!.map(Math.abs));
    const memory = { predicted: memoryNeeds(opened.config, { dtype: resolved }).total, used: backend.memory.liveBytes };
    return { dtype: resolved, error: largestDifference(logits, expected.get(name)!) / largest, memory };
  };

  it.each(names)('%s is computed in its own dtype as the weights on the disk say', async (name) => {
    const { dtype, error, memory } = await compute(name);
    expect(dtype).toBe(bounds[name].dtype);
    expect(error).toBeLessThan(bounds[name].bound);
    expect(Math.abs(memory.used / memory.predicted - 1)).toBeLessThan(0.05);
  });

  it.each(names)('%s is computed in f32 within rounding, and in f16 within that of f16', async (name) => {
    expect((await compute(name, 'f32')).error).toBeLessThan(1e-4);
    expect((await compute(name, 'f16')).error).toBeLessThan(5e-3);
  });
});

it('an adapter merged into a quantised build is the same as one kept apart', async () => {
  await using model = await openModelFolder(join(root, 'awq'));
  await writeAdapter(join(root, 'adapter'), model.config, { targets: ['q_proj', 'up_proj'], rank: 3 });
  await using adapter = await openAdapterFolder(join(root, 'adapter'), model.config);
  const merged = mergedSource(model.source, adapter);
  expect(merged.blocks?.dtypeOf('model.layers.0.mlp.up_proj.weight')).toBeUndefined();
  expect(merged.blocks?.dtypeOf('model.layers.0.mlp.down_proj.weight')).toBe('q4');
  const logits = await Promise.all(
    [true, false].map(async (isMerged) => {
      await using llama = await Llama.load(
        await openTestDevice('cpu'),
        model.config,
        isMerged ? merged : model.source,
        { dtype: 'f32', ...(isMerged ? {} : { adapters: { own: adapter } }) },
      );
      using context = llama.createContext(isMerged ? undefined : 'own');
      const [[row]] = (await llama.logits([{ context, ids, wanted: [ids.length - 1] }])) as [[Float32Array]];
      return row;
    }),
  );
  const largest = Math.max(...logits[0]!.map(Math.abs));
  expect(largestDifference(logits[0]!, Float64Array.from(logits[1]!)) / largest).toBeLessThan(1e-5);
  const plain = expected.get('awq')!;
  expect(largestDifference(logits[0]!, plain) / largest).toBeGreaterThan(0.01);
});

describe('a folder of a quantised build', () => {
  it('says how it is stored, and what it keeps whole', async () => {
    await using opened = await openModelFolder(join(root, 'awq'));
    expect(opened.quantised).toEqual({ name: 'AWQ, 4 bits, groups of 128', dtype: 'q4' });
    expect(opened.storedDTypes).toEqual(['F16']);
    expect(opened.config.wholeMatrices).toEqual(['model.embed_tokens.weight', 'lm_head.weight']);
    expect(opened.source.totalBytes).toBe(opened.stored.totalBytes);
  });

  it('takes the memory of its dtype, and of f16 for what it keeps whole', async () => {
    await using opened = await openModelFolder(join(root, 'gptq'));
    const { wholeMatrices: _, ...unquantised } = opened.config;
    const [own, all] = [opened.config, unquantised as LlamaConfig].map(
      (of) => memoryNeeds(of, { dtype: 'q4' }).weights,
    );
    const wholeNumbers = 2 * config.vocab_size * config.hidden_size;
    expect(own! - all!).toBe((wholeNumbers * (16 - 5)) / 8);
  });

  it('is hashed by its files, without a matrix being decoded', async () => {
    await using opened = await openModelFolder(join(root, 'gptq'));
    const { config, stored, source } = opened;
    const hash = await modelHash({ config, source: stored, tokenizer: {} });
    expect(hash).not.toBe(await modelHash({ config, source, tokenizer: {} }));
    await using again = await openModelFolder(join(root, 'gptq'));
    expect(await modelHash({ config: again.config, source: again.stored, tokenizer: {} })).toBe(hash);
  });
});
