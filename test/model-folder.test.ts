import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectedTensors, parameterCount } from '../engine/config.ts';
import { ModelError } from '../engine/errors.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { decodeToF32, type FloatDType, floatDTypes } from '../engine/safetensors/convert.ts';
import {
  huggingFaceConfig,
  joinSafetensors,
  randomWeights,
  smallConfig,
  type TensorData,
  writeModelFolder,
  writeSafetensors,
} from './support/model-files.ts';

const tinyGuard = fileURLToPath(new URL('../guard/models/tiny-guard', import.meta.url));
const config = smallConfig();
let root: string;
let folders = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'model-folder-'));
});
afterAll(() => rm(root, { recursive: true, force: true }));

async function newFolder(): Promise<string> {
  const folder = join(root, String(folders++));
  await mkdir(folder);
  return folder;
}

async function modelFolder(options?: Parameters<typeof writeModelFolder>[2]): Promise<string> {
  const folder = await newFolder();
  await writeModelFolder(folder, config, options);
  return folder;
}

/** The tensors of a small model, to be changed and written. */
function smallTensors(dtype: FloatDType = 'F32'): Record<string, TensorData> {
  const shapes = expectedTensors(config);
  const weights = randomWeights(config, 1, dtype);
  return Object.fromEntries([...weights].map(([name, data]) => [name, { dtype, shape: shapes.get(name)!, data }]));
}

async function errorOf(folder: string): Promise<ModelError> {
  try {
    const model = await openModelFolder(folder);
    await model[Symbol.asyncDispose]();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelError);
    return error as ModelError;
  }
  throw new Error('A ModelError was expected, but the folder opened.');
}

async function expectWeights(folder: string, expected: ReadonlyMap<string, Float32Array>): Promise<void> {
  await using model = await openModelFolder(folder);
  for (const [name, values] of expected) {
    const { dtype } = model.source.tensors.get(name)!;
    const parts: number[] = [];
    for await (const chunk of model.source.read(name, { chunkBytes: 1000 })) {
      parts.push(...decodeToF32(chunk, dtype as FloatDType));
    }
    expect(Float32Array.from(parts)).toEqual(values);
  }
}

describe('the embedded tiny-guard', () => {
  test('opens, with 4,229,568 parameters in F16', async () => {
    await using model = await openModelFolder(tinyGuard);
    expect(parameterCount(model.config)).toBe(4_229_568);
    expect(model.storedDTypes).toEqual(['F16']);
    expect(model.source.totalBytes).toBe(2 * 4_229_568);
    expect(model.source.tensors.size).toBe(expectedTensors(model.config).size);
    expect(model.files).toContainEqual({ name: 'model.safetensors', bytes: 8_465_200 });
    expect(model.files).toContainEqual({ name: 'tokenizer.model', bytes: 61_551 });
  });

  test('streams the bytes that are in the file', async () => {
    await using model = await openModelFolder(tinyGuard);
    const file = await readFile(join(tinyGuard, 'model.safetensors'));
    for (const [name, { begin, end }] of model.source.tensors) {
      const parts: Uint8Array[] = [];
      for await (const chunk of model.source.read(name, { chunkBytes: 100_000 })) parts.push(chunk.slice());
      expect(Buffer.concat(parts).equals(file.subarray(begin, end))).toBe(true);
    }
  });
});

describe('a model folder', () => {
  test.each(floatDTypes)('of one file in %s gives the weights that were written', async (dtype) => {
    const folder = await newFolder();
    await expectWeights(folder, await writeModelFolder(folder, config, { dtype, seed: 7 }));
  });

  test('of several shards gives the weights that were written', async () => {
    const folder = await newFolder();
    const weights = await writeModelFolder(folder, config, { dtype: 'BF16', shards: 3 });
    expect((await readdir(folder)).filter((name) => name.endsWith('.safetensors'))).toHaveLength(3);
    await expectWeights(folder, weights);
  });

  test('written from the same seed is the same, from another is not', async () => {
    const [a, b, c] = await Promise.all([4, 4, 5].map((seed) => modelFolder({ seed })));
    const [bytesA, bytesB, bytesC] = await Promise.all(
      [a!, b!, c!].map((folder) => readFile(join(folder, 'model.safetensors'))),
    );
    expect(bytesA!.equals(bytesB!)).toBe(true);
    expect(bytesA!.equals(bytesC!)).toBe(false);
  });

  test('may hold tensors that the config does not ask for', async () => {
    const folder = await modelFolder();
    const inverse = { dtype: 'F64', shape: [3], data: new Uint8Array(24) } as const;
    const tensors = { ...smallTensors(), 'model.layers.0.self_attn.rotary_emb.inv_freq': inverse };
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    await using model = await openModelFolder(folder);
    expect(model.storedDTypes).toEqual(['F32']);
  });

  test('may mix dtypes', async () => {
    const folder = await modelFolder();
    const tensors = { ...smallTensors('BF16'), 'model.norm.weight': smallTensors('F32')['model.norm.weight']! };
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    await using model = await openModelFolder(folder);
    expect(model.storedDTypes).toEqual(['F32', 'BF16']);
  });

  test('may tie its embeddings, with or without an lm_head in the file', async () => {
    const folder = await newFolder();
    await writeModelFolder(folder, smallConfig({ tieWordEmbeddings: true }));
    await using tied = await openModelFolder(folder);
    expect(tied.source.tensors.has('lm_head.weight')).toBe(false);
    await writeSafetensors(join(folder, 'model.safetensors'), smallTensors());
    await using both = await openModelFolder(folder);
    expect(both.config.tieWordEmbeddings).toBe(true);
  });

  test('may consist of links that lead elsewhere, as in the Hugging Face cache', async () => {
    const folder = await newFolder();
    for (const name of ['config.json', 'model.safetensors']) await symlink(join(tinyGuard, name), join(folder, name));
    await symlink(join(root, 'nowhere'), join(folder, 'dangling.json'));
    await using model = await openModelFolder(folder);
    expect(model.files.map(({ name }) => name)).toEqual(['config.json', 'model.safetensors']);
  });

  test('prefers the single file to an index', async () => {
    const folder = await modelFolder();
    await writeFile(join(folder, 'model.safetensors.index.json'), 'not JSON');
    await using model = await openModelFolder(folder);
    expect(model.config).toEqual(config);
  });
});

describe('what is not a model folder', () => {
  test('a path with nothing there', async () => {
    const error = await errorOf(join(root, 'none'));
    expect(error.code).toBe('model-not-found');
    expect(error.message).toMatch(/none: .*config\.json.*no such folder/);
  });

  test('a file', async () => {
    const error = await errorOf(join(tinyGuard, 'config.json'));
    expect(error.code).toBe('model-not-found');
    expect(error.message).toMatch(/it is a file; give the folder/);
  });

  test('an empty folder', async () => {
    const error = await errorOf(await newFolder());
    expect(error.code).toBe('model-not-found');
    expect(error.message).toMatch(/must hold config\.json/);
  });

  test('a config.json without weights', async () => {
    const folder = await modelFolder();
    await rm(join(folder, 'model.safetensors'));
    const error = await errorOf(folder);
    expect(error.code).toBe('model-not-found');
    expect(error.message).toMatch(/model\.safetensors or .*Download the weights/);
  });

  test.each<[string, RegExp]>([
    ['pytorch_model.bin', /pickles.*save_pretrained/],
    ['pytorch_model-00001-of-00002.bin', /pickles/],
    ['consolidated.00.pth', /folder above.*-hf.*convert_llama_weights_to_hf --input_dir/],
    ['params.json', /Meta and Mistral.*convert_llama_weights_to_hf/],
    ['llama-guard.Q4_K_M.gguf', /GGUF/],
    ['weights.safetensors', /must be called model\.safetensors/],
  ])('weights in another form, %s, with or without a config.json', async (name, message) => {
    const folder = await newFolder();
    await writeFile(join(folder, name), 'x');
    for (const prepare of [
      () => {},
      () => writeFile(join(folder, 'config.json'), JSON.stringify(huggingFaceConfig(config))),
    ]) {
      await prepare();
      const error = await errorOf(folder);
      expect(error.code).toBe('model-not-found');
      expect(error.message).toMatch(message);
    }
  });

  test.each<[string, string | Uint8Array, RegExp]>([
    ['no JSON', '{"hidden_size": NaN}', /must be JSON/],
    ['empty', '', /must be JSON/],
    ['no UTF-8', Uint8Array.of(0x7b, 0xff, 0x7d), /UTF-8/],
    ['nested without end', '['.repeat(100_000), /nested deeper/],
    ['ambiguous', '{"hidden_size": 24, "hidden_size": 32}', /"hidden_size" twice/],
    ['huge', ' '.repeat(2 ** 20 + 1), /at most 1048576 bytes/],
  ])('a config.json that is %s', async (_, content, message) => {
    const folder = await modelFolder();
    await writeFile(join(folder, 'config.json'), content);
    const error = await errorOf(folder);
    expect(error.code).toBe('config-invalid');
    expect(error.message).toMatch(message);
    expect(error.message).toContain(join(folder, 'config.json'));
  });

  test.skipIf(process.platform === 'win32')('a pipe in place of a file, which would never end', async () => {
    const folder = await modelFolder();
    await rm(join(folder, 'model.safetensors'));
    await promisify(execFile)('mkfifo', [join(folder, 'model.safetensors')]);
    expect((await errorOf(folder)).code).toBe('model-not-found');
  });
});

describe('shards', () => {
  type Index = { weight_map: Record<string, unknown> };

  /** A folder of two shards whose index `change` has edited. */
  async function withIndex(change: (index: Index) => unknown): Promise<string> {
    const folder = await modelFolder({ shards: 2 });
    const path = join(folder, 'model.safetensors.index.json');
    const index = JSON.parse(await readFile(path, 'utf8')) as Index;
    const changed = change(index) ?? index;
    await writeFile(path, typeof changed === 'string' ? changed : JSON.stringify(changed));
    return folder;
  }

  test('that are missing are named', async () => {
    const folder = await modelFolder({ shards: 3 });
    await rm(join(folder, 'model-00002-of-00003.safetensors'));
    const error = await errorOf(folder);
    expect(error.code).toBe('model-not-found');
    expect(error.message).toMatch(/3 shards, but 1 .*"model-00002-of-00003\.safetensors"/);
  });

  test('without an index are told apart from no weights', async () => {
    const folder = await modelFolder({ shards: 2 });
    await rm(join(folder, 'model.safetensors.index.json'));
    expect((await errorOf(folder)).message).toMatch(/shards need model\.safetensors\.index\.json/);
  });

  test.each([
    '../outside.safetensors',
    '/etc/outside.safetensors',
    'sub/inside.safetensors',
    '..\\outside.safetensors',
    'C:outside.safetensors',
    '..',
    '.',
    '',
    'config.json',
    'a\0.safetensors',
    '\n/x.safetensors',
    7,
    null,
  ])('are not looked for at %j', async (shard) => {
    await writeSafetensors(join(root, 'outside.safetensors'), smallTensors());
    const folder = await withIndex(({ weight_map }) => {
      weight_map['model.norm.weight'] = shard;
    });
    const error = await errorOf(folder);
    expect(error.code).toBe('safetensors-invalid');
    expect(error.message).toMatch(/"model\.norm\.weight" must be in a \.safetensors file of this folder/);
  });

  test.each<[string, (index: Index) => unknown, RegExp]>([
    ['no JSON', () => '{', /must be JSON/],
    ['a list', () => [], /'weight_map' must be an object/],
    ['without a map', () => ({}), /'weight_map' must be an object/],
    ['a map that is a list', () => ({ weight_map: [] }), /'weight_map' must be an object/],
    ['one with a tensor twice', () => '{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}', /"a" twice/],
  ])('with an index that is %s are refused', async (_, change, message) => {
    const error = await errorOf(await withIndex(change));
    expect(error.code).toBe('safetensors-invalid');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('model.safetensors.index.json');
  });

  test('with an empty map lack every tensor', async () => {
    expect((await errorOf(await withIndex(() => ({ weight_map: {} })))).code).toBe('tensor-missing');
  });

  test('must hold what the index says', async () => {
    const elsewhere = await withIndex(({ weight_map }) => {
      weight_map['model.norm.weight'] = weight_map['model.embed_tokens.weight'];
    });
    const error = await errorOf(elsewhere);
    expect(error.code).toBe('safetensors-invalid');
    expect(error.message).toMatch(/"model\.norm\.weight" must be in model-00001.*but is in .*model-00002/);

    const nowhere = await withIndex(({ weight_map }) => {
      weight_map['__proto__.weight'] = weight_map['model.norm.weight'];
    });
    expect((await errorOf(nowhere)).message).toMatch(/"__proto__\.weight" must be in .*but is not there/);
  });

  test('must not hold a tensor twice', async () => {
    const folder = await modelFolder({ shards: 2 });
    await writeSafetensors(join(folder, 'model-00002-of-00002.safetensors'), smallTensors());
    const error = await errorOf(folder);
    expect(error.code).toBe('safetensors-invalid');
    expect(error.message).toMatch(/must be in one file, but is in .*0000[12]-of-00002.* and .*0000[12]-of-00002/);
  });
});

describe('weights that do not fit the config', () => {
  async function withTensors(change: (tensors: Record<string, TensorData>) => void): Promise<ModelError> {
    const folder = await modelFolder();
    const tensors = smallTensors();
    change(tensors);
    await writeSafetensors(join(folder, 'model.safetensors'), tensors);
    return errorOf(folder);
  }

  test('lack a tensor', async () => {
    const error = await withTensors((tensors) => {
      delete tensors['model.layers.1.mlp.up_proj.weight'];
    });
    expect(error.code).toBe('tensor-missing');
    expect(error.message).toMatch(/lack "model\.layers\.1\.mlp\.up_proj\.weight", of 21/);
  });

  test('lack several', async () => {
    const error = await withTensors((tensors) => {
      delete tensors['lm_head.weight'];
      delete tensors['model.norm.weight'];
    });
    expect(error.message).toMatch(/"model\.norm\.weight" and 1 others/);
  });

  test.each([[[12, 48]], [[24, 24, 1]], [[576]]])('have shape %j in place of 24 by 24', async (shape) => {
    const error = await withTensors((tensors) => {
      const name = 'model.layers.0.self_attn.q_proj.weight';
      tensors[name] = { ...tensors[name]!, shape };
    });
    expect(error.code).toBe('tensor-mismatch');
    expect(error.message).toMatch(/"model\.layers\.0\.self_attn\.q_proj\.weight" must have shape \[24,24\]/);
    expect(error.message).toContain(JSON.stringify(shape));
  });

  test.each(['I8', 'F8_E4M3', 'F64', 'I32'] as const)('are stored as %s', async (dtype) => {
    const size = { I8: 1, F8_E4M3: 1, F64: 8, I32: 4 }[dtype];
    const error = await withTensors((tensors) => {
      tensors['model.norm.weight'] = { dtype, shape: [24], data: new Uint8Array(24 * size) };
    });
    expect(error.code).toBe('dtype-unsupported');
    expect(error.message).toContain(`"model.norm.weight" is stored as ${dtype}`);
  });

  test('are of a malformed file, which is named', async () => {
    const folder = await modelFolder();
    await writeFile(join(folder, 'model.safetensors'), joinSafetensors('{"a":', []));
    const error = await errorOf(folder);
    expect(error.code).toBe('safetensors-invalid');
    expect(error.message).toContain(join(folder, 'model.safetensors'));
  });

  test('are of a truncated file', async () => {
    const folder = await modelFolder();
    for (const bytes of [20_000, 1000, 8, 3, 0]) {
      await truncate(join(folder, 'model.safetensors'), bytes);
      expect((await errorOf(folder)).code).toBe('safetensors-invalid');
    }
  });
});

test('a file that is cut short while it is read is a typed error', async () => {
  const folder = await modelFolder();
  await using model = await openModelFolder(folder);
  await truncate(join(folder, 'model.safetensors'), 9000);
  const reading = async () => {
    for (const name of model.source.tensors.keys()) for await (const _ of model.source.read(name, { chunkBytes: 64 }));
  };
  await expect(reading()).rejects.toMatchObject({ name: 'ModelError', code: 'safetensors-invalid' });
});

test('disposing closes every file, a failure to open too', async () => {
  const descriptors = async () => (await readdir('/proc/self/fd').catch(() => [])).length;
  const [good, bad] = [await modelFolder({ shards: 4 }), await modelFolder({ shards: 4 })];
  await rename(join(good, 'config.json'), join(bad, 'config.json'));
  await writeFile(join(good, 'config.json'), JSON.stringify(huggingFaceConfig(config)));
  await writeFile(join(bad, 'model-00004-of-00004.safetensors'), 'not one');
  const before = await descriptors();
  for (let round = 0; round < 5; round++) {
    const model = await openModelFolder(good);
    await model[Symbol.asyncDispose]();
    await model[Symbol.asyncDispose]();
    expect((await errorOf(bad)).code).toBe('safetensors-invalid');
  }
  expect(await descriptors()).toBe(before);
});

test('host memory stays flat while a large model streams', async () => {
  // 128 MiB of weights that take no room on the disk: a hole in the file.
  const large = smallConfig({ vocabularySize: 2 ** 15, hiddenSize: 512, headDim: 128, numHiddenLayers: 1 });
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const [name, shape] of expectedTensors(large)) {
    const begin = end;
    end += 4 * shape.reduce((a, b) => a * b, 1);
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] };
  }
  const folder = await newFolder();
  await writeFile(join(folder, 'config.json'), JSON.stringify(huggingFaceConfig(large)));
  const bytes = joinSafetensors(header, []);
  await writeFile(join(folder, 'model.safetensors'), bytes);
  await truncate(join(folder, 'model.safetensors'), bytes.length + end);

  await using model = await openModelFolder(folder);
  expect(model.source.totalBytes).toBeGreaterThan(128 * 2 ** 20);
  const before = process.memoryUsage().arrayBuffers;
  let peak = 0;
  let total = 0;
  for (const name of model.source.tensors.keys()) {
    for await (const chunk of model.source.read(name)) {
      total += chunk.length;
      peak = Math.max(peak, process.memoryUsage().arrayBuffers - before);
    }
  }
  expect(total).toBe(model.source.totalBytes);
  // Two chunks of 4 MiB, and room for what else the process does.
  expect(peak).toBeLessThan(12 * 2 ** 20);
});

test('whatever is done to its files, a folder opens or a ModelError says why not', async () => {
  const folder = await modelFolder({ shards: 2 });
  const names = ['config.json', 'model.safetensors.index.json', 'model-00001-of-00002.safetensors'];
  const originals = new Map<string, Buffer>();
  for (const name of names) originals.set(name, await readFile(join(folder, name)));
  const edit = fc.tuple(fc.nat(1500), fc.oneof(fc.constantFrom(...Buffer.from('{}[]",:019-./\\ ')), fc.nat(255)));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...names), fc.array(edit, { minLength: 1, maxLength: 3 }), async (name, edits) => {
      const bytes = Buffer.from(originals.get(name)!);
      for (const [at, value] of edits) bytes[at % bytes.length] = value;
      await writeFile(join(folder, name), bytes);
      try {
        await using model = await openModelFolder(folder);
        expect(model.source.tensors.size).toBeGreaterThanOrEqual(expectedTensors(model.config).size);
      } catch (error) {
        expect(error).toBeInstanceOf(ModelError);
      } finally {
        await writeFile(join(folder, name), originals.get(name)!);
      }
    }),
    { numRuns: 300 },
  );
});
