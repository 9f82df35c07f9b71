import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { catalogue, lookUp } from '../bench/make-model/catalogue.ts';
import type { HuggingFaceConfig } from '../bench/make-model/config.ts';
import { makeAdapter, makeModel, modelWeights, writeModelFolder } from '../bench/make-model/index.ts';
import { parseLoraOptions } from '../bench/make-model/lora.ts';
import { scaleConfig } from '../bench/make-model/scale.ts';
import { headsOf, projectionsOf, tensorsOf } from '../bench/make-model/tensors.ts';
import { sentencePieceTokenizer, smallestVocabularies, trainedTokenizer } from '../bench/make-model/tokenizer-files.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { makeOracleAdapter, makeOracleModel, oracle } from './support/oracle-models.ts';
import { floatsOf, type PeerTensor, readFileWithPeer } from './support/safetensors-peer.ts';
import { largestDifference } from './support/tiny-guard.ts';
import { loadFiles } from './support/tokenizer-fixtures.ts';

let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'make-model-'));
});
afterAll(() => rm(root, { recursive: true }));
const newFolder = () => join(root, String(folders++));

const readJson = async (folder: string, name: string) => JSON.parse(await readFile(join(folder, name), 'utf8'));
/** All tensors of a folder's weight files, by a reader that shares no code with ours. */
async function readTensors(folder: string): Promise<Map<string, PeerTensor & { file: string }>> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.safetensors')).sort();
  const files = await Promise.all(
    names.map(async (file) => [file, await readFileWithPeer(join(folder, file))] as const),
  );
  return new Map(files.flatMap(([file, tensors]) => [...tensors].map(([name, tensor]) => [name, { ...tensor, file }])));
}
/** Quicker than `toEqual`, which compares byte by byte in JavaScript. */
const expectSameBytes = (a: Uint8Array, b: Uint8Array) => expect(Buffer.compare(a, b)).toBe(0);
const elements = (shape: readonly number[]) => shape.reduce((product, size) => product * size, 1);

describe('the catalogue', () => {
  // As the models' cards and papers count them; a tied head counts once.
  it.each([
    ['llama-guard-7b', 6_738_415_616],
    ['llama-guard-2-8b', 8_030_261_248],
    ['llama-guard-3-8b', 8_030_261_248],
    ['llama-guard-3-1b', 1_235_814_400],
    ['wildguard', 7_248_023_552],
    ['md-judge-v0.1', 7_241_732_096],
    ['qwen3guard-gen-0.6b', 596_049_920],
    ['qwen3guard-gen-4b', 4_022_468_096],
    ['qwen3guard-gen-8b', 8_190_735_360],
    ['qwen2.5-0.5b', 494_032_768],
  ])('has as many parameters as published: %s', (name, published) => {
    const shapes = tensorsOf(lookUp(name).config).map(({ shape }) => elements(shape));
    expect(shapes.reduce((sum, count) => sum + count, 0)).toBe(published);
  });

  it('tells what there is of a name that is not', () => {
    expect(() => lookUp('llama-guard-9')).toThrow(/no model 'llama-guard-9'; there is llama-guard-7b, /);
    expect(() => lookUp('toString')).toThrow(/no model/);
  });
});

describe('a scale', () => {
  it('keeps what makes a model computable, whatever it is', () => {
    const names = fc.constantFrom(...Object.keys(catalogue).filter((name) => !name.startsWith('tiny-')));
    fc.assert(
      fc.property(names, fc.double({ min: 0.001, max: 1, noNaN: true }), (name, scale) => {
        const { config: published } = lookUp(name);
        const config = scaleConfig(published, scale, 1024);
        const [before, after] = [headsOf(published), headsOf(config)];
        expect(after.queryHeads / after.keyValueHeads).toBe(before.queryHeads / before.keyValueHeads);
        for (const width of Object.values(projectionsOf(config)).flat()) expect(width % 32).toBe(0);
        if (published.hidden_size === before.queryHeads * before.headDim) {
          expect(config.hidden_size).toBe(after.queryHeads * after.headDim);
        }
        for (const [field, value] of Object.entries(config)) {
          const was = published[field];
          if (typeof value === 'number' && typeof was === 'number') expect(value, field).toBeLessThanOrEqual(was);
        }
        expect(config.num_hidden_layers).toBeGreaterThanOrEqual(2);
        for (const id of [config.bos_token_id, config.eos_token_id].flat()) {
          expect(id).toBeGreaterThanOrEqual(0);
          expect(id).toBeLessThan(config.vocab_size);
        }
      }),
    );
  });

  it('multiplies widths, heads, layers and vocabulary', () => {
    const half = scaleConfig(lookUp('llama-guard-3-8b').config, 0.5, 1024);
    expect(half).toMatchObject({
      hidden_size: 2048,
      intermediate_size: 7168,
      num_attention_heads: 16,
      num_hidden_layers: 16,
      num_key_value_heads: 4,
      vocab_size: 64_128,
      bos_token_id: 63_872,
      eos_token_id: [63_873, 63_880, 63_881],
      max_position_embeddings: 131_072,
      rope_theta: 500_000,
    });
    // A head of 64 is narrowed once there is one of its kind left; ids of a SentencePiece model stay.
    const small = scaleConfig(lookUp('llama-guard-3-1b').config, 0.05, 1024);
    expect(small).toMatchObject({ num_attention_heads: 4, num_key_value_heads: 1, head_dim: 32, hidden_size: 128 });
    expect(scaleConfig(lookUp('llama-guard-7b').config, 0.01, 4096)).toMatchObject({
      vocab_size: 4096,
      bos_token_id: 1,
    });
  });

  it.each([0, -1, 1.5, Number.NaN])('is above 0 and at most 1, not %d', (scale) => {
    expect(() => scaleConfig(lookUp('llama-768').config, scale, 1024)).toThrow(RangeError);
  });
});

describe('a folder', () => {
  it.each(Object.keys(catalogue))('has the tensors of its configuration: %s', async (like) => {
    const folder = newFolder();
    const tiny = like.startsWith('tiny-');
    const { files } = await makeModel(folder, { like, scale: tiny ? 1 : 0.02 });
    const { config: published, shards, storesTiedHead } = lookUp(like);
    const config: HuggingFaceConfig = await readJson(folder, 'config.json');
    expect(Object.keys(config)).toEqual(Object.keys(published).sort());
    expect(config).toMatchObject({ architectures: published.architectures, torch_dtype: published.torch_dtype });
    if (tiny) expect(config).toEqual(published);

    const tensors = await readTensors(folder);
    const expected = new Map(tensorsOf(config).map(({ name, shape }) => [name, shape]));
    if (storesTiedHead) expected.set('lm_head.weight', expected.get('model.embed_tokens.weight')!);
    expect(new Map([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual(expected);
    const dtype = { bfloat16: 'BF16', float16: 'F16', float32: 'F32' }[published.torch_dtype!];
    for (const tensor of tensors.values()) expect(tensor.dtype).toBe(dtype);
    if (storesTiedHead) {
      expectSameBytes(tensors.get('lm_head.weight')!.bytes, tensors.get('model.embed_tokens.weight')!.bytes);
    }
    expect(new Set([...tensors.values()].map(({ file }) => file)).size).toBe(shards);
    expect([...files.keys()].sort()).toEqual(await readdir(folder));
    const generation = await readJson(folder, 'generation_config.json');
    expect(generation.bos_token_id).toBe(config.bos_token_id);
    expect([generation.eos_token_id].flat()).toEqual(expect.arrayContaining([config.eos_token_id].flat()));
  });

  it('has the biases that its configuration asks for', () => {
    const biases = (like: string, changes: object) =>
      tensorsOf({ ...lookUp(like).config, num_hidden_layers: 1, ...changes })
        .filter(({ role }) => role === 'bias')
        .map(({ name }) => name.split('.').at(-2));
    const attention = ['q_proj', 'k_proj', 'v_proj', 'o_proj'];
    expect(biases('tiny-llama-3', { attention_bias: true })).toEqual(attention);
    expect(biases('tiny-llama-3', { mlp_bias: true })).toEqual(['gate_proj', 'up_proj', 'down_proj']);
    expect(biases('tiny-qwen3', { attention_bias: true, mlp_bias: true })).toEqual(attention);
    expect(biases('tiny-qwen2.5', {})).toEqual(['q_proj', 'k_proj', 'v_proj']);
    expect(biases('tiny-mistral-v0.1', { attention_bias: true, mlp_bias: true })).toEqual([]);
  });

  it('has an index of its shards', async () => {
    const whole = newFolder();
    await makeModel(whole, { like: 'tiny-llama-2' });
    const single = await readTensors(whole);
    for (const shards of [2, 5, single.size]) {
      const folder = newFolder();
      await makeModel(folder, { like: 'tiny-llama-2', shards });
      const index = await readJson(folder, 'model.safetensors.index.json');
      const tensors = await readTensors(folder);
      const sizes = [...tensors.values()].map(({ bytes }) => bytes.length);
      expect(index.metadata).toEqual({ total_size: sizes.reduce((sum, size) => sum + size, 0) });
      expect(Object.keys(index.weight_map)).toEqual([...tensors.keys()].sort());
      const number = (shard: number) => String(shard).padStart(5, '0');
      const names = Array.from({ length: shards }, (_, i) => `model-${number(i + 1)}-of-${number(shards)}.safetensors`);
      expect([...new Set(Object.values(index.weight_map))].sort()).toEqual(names);
      for (const [name, { file, bytes }] of tensors) {
        expect(index.weight_map[name]).toBe(file);
        // Numbers follow from the seed and the tensor's name alone.
        expectSameBytes(bytes, single.get(name)!.bytes);
      }
    }
    await expect(makeModel(newFolder(), { like: 'tiny-llama-2', shards: single.size + 1 })).rejects.toThrow(
      /21 tensors/,
    );
  });

  it('is the same bytes for the same seed, and others for another', async () => {
    const make = async (seed: number) => {
      const folder = newFolder();
      await makeModel(folder, { like: 'tiny-qwen3', seed });
      return readFile(join(folder, 'model.safetensors'));
    };
    const [first, again, other] = await Promise.all([make(7), make(7), make(8)]);
    expectSameBytes(first, again);
    expect(first.equals(other)).toBe(false);
    await expect(make(0.5)).rejects.toThrow(/A seed must be a whole number/);
  });

  it('is made in small pieces', async () => {
    const pieces: number[] = [];
    const config = { ...lookUp('llama-guard-3-1b').config, hidden_size: 256, num_hidden_layers: 2, vocab_size: 50_000 };
    const files = await writeModelFolder(newFolder(), config, { progress: (bytes) => pieces.push(bytes) });
    expect(Math.max(...pieces)).toBeLessThanOrEqual(2 ** 22);
    const header = 8 + 4096;
    const written = pieces.reduce((sum, bytes) => sum + bytes, 0);
    expect(files.get('model.safetensors')! - written).toBeLessThan(header);
    expect(written).toBeGreaterThan(25_000_000);
  });

  it('holds the numbers that are told in memory, as each dtype rounds them', async () => {
    const { config } = lookUp('tiny-qwen2.5');
    const exact = modelWeights(config, { dtype: 'F32', seed: 3 });
    for (const [dtype, unit] of [
      ['F32', 0],
      ['F16', 2 ** -11],
      ['BF16', 2 ** -8],
    ] as const) {
      const folder = newFolder();
      await writeModelFolder(folder, config, { dtype, seed: 3 });
      expect((await readJson(folder, 'config.json')).torch_dtype).toMatch(/float/);
      const told = modelWeights(config, { dtype, seed: 3 });
      for (const [name, tensor] of await readTensors(folder)) {
        const own = told.get(name)!;
        expect(largestDifference(floatsOf(tensor), own)).toBe(0);
        const rounding = own.map((value, i) => Math.abs(value - exact.get(name)![i]!) / (Math.abs(value) || 1));
        expect(Math.max(...rounding)).toBeLessThanOrEqual(unit);
      }
    }
  });

  it('is what the oracle was computed from', async () => {
    for (const name of Object.keys(oracle.models)) await makeOracleModel(name, newFolder());
    for (const name of Object.keys(oracle.adapters)) await makeOracleAdapter(name, newFolder());
    expect(Object.keys(oracle.models)).toEqual(Object.keys(catalogue).filter((name) => name.startsWith('tiny-')));
  });
});

describe('weights', () => {
  const weights = modelWeights({ ...lookUp('tiny-qwen2.5').config, hidden_size: 192, intermediate_size: 512 });
  const momentsOf = (values: Float32Array) => {
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
    return { mean, deviation: Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length) };
  };

  it('keep activations near 1', () => {
    const up = momentsOf(weights.get('model.layers.0.mlp.up_proj.weight')!);
    expect(up.mean).toBeCloseTo(0, 3);
    expect(up.deviation * Math.sqrt(192)).toBeCloseTo(1, 2);
    const bias = momentsOf(weights.get('model.layers.0.self_attn.q_proj.bias')!);
    expect(bias.deviation).toBeGreaterThan(0.3);
    const norm = momentsOf(weights.get('model.norm.weight')!);
    expect(Math.abs(norm.mean - 1)).toBeLessThan(0.05);
  });

  it('of no two tensors or rows go together', () => {
    const gate = weights.get('model.layers.0.mlp.gate_proj.weight')!;
    const others = ['0.mlp.up_proj', '1.mlp.gate_proj'].map((name) => weights.get(`model.layers.${name}.weight`)!);
    for (const other of [...others, gate.subarray(192), gate.subarray(1)]) {
      const product = other.reduce((sum, x, i) => sum + x * gate[i]!, 0);
      expect(Math.abs((product * 192) / other.length)).toBeLessThan(0.02);
    }
  });
});

describe('tokenizer files', () => {
  it("are the embedded model's where a vocabulary has room", async () => {
    const folder = newFolder();
    const { hasTokenizer } = await makeModel(folder, { like: 'md-judge-v0.1', scale: 0.02 });
    expect(hasTokenizer).toBe(true);
    expectSameBytes(
      await readFile(join(folder, 'tokenizer.model')),
      await readFile(join(embeddedModel, 'tokenizer.model')),
    );
    expect(await readJson(folder, 'tokenizer_config.json')).toMatchObject({
      bos_token: '<s>',
      eos_token: '</s>',
      unk_token: '<unk>',
      model_max_length: 32_768,
      tokenizer_class: 'LlamaTokenizer',
      added_tokens_decoder: { 0: { content: '<unk>' }, 1: { content: '<s>' }, 2: { content: '</s>' } },
    });
    expect(await readJson(folder, 'special_tokens_map.json')).toMatchObject({ bos_token: { content: '<s>' } });
  });

  it('are those that were given, or none', async () => {
    const file = 'test/oracles/tokenizer-unigram.model';
    const options = { like: 'tiny-llama-2', makeTokenizer: sentencePieceTokenizer(file) };
    const folder = newFolder();
    await makeModel(folder, { ...options, changes: { vocab_size: 250 } });
    expectSameBytes(await readFile(join(folder, 'tokenizer.model')), await readFile(file));
    expect(await makeModel(newFolder(), options)).toMatchObject({ hasTokenizer: false });
    expect(await makeModel(newFolder(), { like: 'tiny-qwen3' })).toMatchObject({ hasTokenizer: false });
  });

  it.each(['llama-guard-3-8b', 'llama-guard-3-1b', 'qwen3guard-gen-0.6b', 'qwen2.5-0.5b'])(
    'are a tokenizer.json with the special ids of the configuration, at any scale: %s',
    async (like) => {
      const { config: published, tokenizer: kind } = lookUp(like);
      for (const scale of [0.001, 0.07, 1]) {
        const config = scaleConfig(published, scale, smallestVocabularies[kind]);
        const files = await trainedTokenizer({ kind, vocabularySize: config.vocab_size, maxLength: 8192 });
        expect([...files!.keys()]).toEqual(['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json']);
        using tokenizer = await loadFiles(files as Map<string, string>);
        expect(tokenizer.vocabularySize).toBeLessThanOrEqual(config.vocab_size);
        expect([config.eos_token_id].flat()).toContain(tokenizer.eosId);
        if (kind === 'llama-3') expect(tokenizer.bosId).toBe(config.bos_token_id);
        else expect(tokenizer.idOf('<|endoftext|>')).toBe(config.bos_token_id);
        expect(tokenizer.decode(tokenizer.encode('How do I kill a process?'))).toBe('How do I kill a process?');
      }
    },
  );

  it('take a chat template', async () => {
    for (const like of ['md-judge-v0.1', 'llama-guard-3-1b']) {
      const folder = newFolder();
      await makeModel(folder, { like, scale: 0.02, chatTemplate: '{{ messages }}' });
      expect(await readJson(folder, 'tokenizer_config.json')).toMatchObject({ chat_template: '{{ messages }}' });
    }
  });
});

describe('an adapter', () => {
  const lora = { rank: 3, alpha: 8, targets: ['v_proj', 'down_proj'] };

  it('has the names, shapes and settings of PEFT', async () => {
    const folder = newFolder();
    const { files } = await makeAdapter(folder, { like: 'tiny-qwen3', lora });
    expect([...files.keys()].sort()).toEqual(await readdir(folder));
    expect(await readJson(folder, 'adapter_config.json')).toMatchObject({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      r: 3,
      lora_alpha: 8,
      target_modules: ['v_proj', 'down_proj'],
      use_rslora: false,
    });
    const tensors = await readFileWithPeer(join(folder, 'adapter_model.safetensors'));
    const layer = (i: number) => `base_model.model.model.layers.${i}`;
    const expected = [0, 1].flatMap((i) => [
      [`${layer(i)}.self_attn.v_proj.lora_A.weight`, [3, 64]],
      [`${layer(i)}.self_attn.v_proj.lora_B.weight`, [64, 3]],
      [`${layer(i)}.mlp.down_proj.lora_A.weight`, [3, 96]],
      [`${layer(i)}.mlp.down_proj.lora_B.weight`, [64, 3]],
    ]);
    expect(Object.fromEntries([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual(
      Object.fromEntries(expected),
    );
    for (const { dtype } of tensors.values()) expect(dtype).toBe('F32');
  });

  it('says what its settings may be', async () => {
    expect(parseLoraOptions('rank=8,alpha=16,targets=q_proj+v_proj,rslora')).toEqual({
      rank: 8,
      alpha: 16,
      targets: ['q_proj', 'v_proj'],
      rslora: true,
    });
    for (const text of ['', 'rank=8', 'rank=-8,alpha=16,targets=q_proj', 'rank=8,alpha=16,targets=q_proj,dora']) {
      expect(() => parseLoraOptions(text)).toThrow(/must look like rank=8/);
    }
    const make = (change: object) => makeAdapter(newFolder(), { like: 'tiny-qwen3', lora: { ...lora, ...change } });
    await expect(make({ rank: 0 })).rejects.toThrow(/A rank must be/);
    await expect(make({ targets: ['lm_head'] })).rejects.toThrow(/among q_proj, .*'lm_head'/);
    await expect(make({ targets: [] })).rejects.toThrow(/among q_proj/);
  });
});
