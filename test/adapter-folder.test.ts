/** PEFT folders: which are read, and by what error others are refused. */
import { mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ModelError } from '../engine/index.ts';
import { openAdapterFolder, openModelFolder } from '../engine/node/index.ts';
import { type AdapterOptions, adapterTensors, modulesOf, projections, writeAdapter } from './support/adapter-files.ts';
import { smallConfig, type TensorData, writeModelFolder } from './support/model-files.ts';

const config = smallConfig();
let root: string;
let folders = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'adapter-folder-'));
});
afterAll(() => rm(root, { recursive: true }));

async function write(options: AdapterOptions = {}, tensors?: Readonly<Record<string, TensorData>>): Promise<string> {
  const folder = join(root, String(folders++));
  await writeAdapter(folder, config, options, tensors);
  return folder;
}

/** What is read of a folder, without its files. */
async function read(options: AdapterOptions = {}, tensors?: Readonly<Record<string, TensorData>>) {
  await using adapter = await openAdapterFolder(await write(options, tensors), config);
  return adapter;
}

async function refusal(folder: string): Promise<ModelError> {
  try {
    await (await openAdapterFolder(folder, config))[Symbol.asyncDispose]();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelError);
    expect((error as ModelError).message).toContain(folder);
    return error as ModelError;
  }
  throw new Error('A ModelError was expected, but the folder opened.');
}

const nameOf = (module: string, letter: 'A' | 'B') => `base_model.model.${module}.lora_${letter}.weight`;
const query = (layer: number) => `model.layers.${layer}.self_attn.q_proj`;

describe('an adapter', () => {
  it('changes the matrices that it has tensors for', async () => {
    const { updates, base, storedDTypes } = await read({ targets: projections, rank: 4, alpha: 6 });
    expect([...updates.keys()].sort()).toEqual([...modulesOf(config).keys()].map((name) => `${name}.weight`).sort());
    expect(updates.get(`${query(1)}.weight`)).toEqual({
      a: nameOf(query(1), 'A'),
      b: nameOf(query(1), 'B'),
      rank: 4,
      scale: 1.5,
    });
    expect(base).toBe('a-model');
    expect(storedDTypes).toEqual(['F32']);
  });

  it.each<[string, AdapterOptions, number]>([
    ['alpha / rank', {}, 2],
    ['alpha / sqrt(rank) where it is rank-stabilised', { fields: { use_rslora: true } }, 4],
    ['that of its module', { fields: { alpha_pattern: { 'self_attn.q_proj': 20 } } }, 5],
    ['the first that names it', { fields: { alpha_pattern: { q_proj: 12, [query(0)]: 20 } } }, 3],
    ['not that of others', { fields: { alpha_pattern: { proj: 12, 'layers.1.self_attn.q_proj': 20 } } }, 2],
    ['that of a whole name', { fields: { alpha_pattern: { [`^${query(0).replaceAll('.', '\\.')}$`]: 20 } } }, 5],
    ['not that of a part of it', { fields: { alpha_pattern: { '^self_attn.q_proj': 20 } } }, 2],
    ['by the rank of its module', { ranks: { [query(0)]: 2 } }, 4],
  ])('has a scale: %s', async (_, options, scale) => {
    const { updates } = await read(options);
    expect(updates.get(`${query(0)}.weight`)!.scale).toBeCloseTo(scale, 12);
  });

  it.each<[string, AdapterOptions]>([
    ['an older version of PEFT', { fields: { use_rslora: undefined, use_dora: undefined, rank_pattern: undefined } }],
    ['all linear layers', { targets: projections, fields: { target_modules: 'all-linear' } }],
    ['modules by a pattern', { fields: { target_modules: '(a+)+.*\\.(q|v)_proj' } }],
    ['modules by their whole names', { fields: { target_modules: [query(0), query(1), 'v_proj'] } }],
    ['some layers', { layers: [1], fields: { layers_to_transform: [1] } }],
    [
      'modules but for some',
      { targets: ['q_proj'], fields: { target_modules: ['q_proj', 'k_proj'], exclude_modules: ['k_proj'] } },
    ],
    ['another task by name', { fields: { task_type: null } }],
    ['other beginnings', { fields: { init_lora_weights: 'gaussian' } }],
    ['fields of a later version', { fields: { peft_version: '0.30.0', something_new: null, kasa_config: null } }],
    ['half floats', { dtype: 'BF16' }],
  ])('is read: of %s', async (_, options) => {
    expect((await read(options)).updates.size).toBeGreaterThan(0);
  });
});

describe('refused', () => {
  it.each<[string, Record<string, unknown>, ModelError['code'], RegExp]>([
    ['another kind of adapter', { peft_type: 'IA3' }, 'adapter-unsupported', /'peft_type'.*"IA3"/],
    ['no kind at all', { peft_type: undefined }, 'config-invalid', /'peft_type' must be a string/],
    ['a classifier', { task_type: 'SEQ_CLS' }, 'adapter-unsupported', /'task_type'.*"SEQ_CLS"/],
    ['DoRA', { use_dora: true }, 'adapter-unsupported', /'use_dora' is true, but DoRA/],
    ['biases', { bias: 'lora_only' }, 'adapter-unsupported', /'bias'.*"lora_only"/],
    ['biases of its own', { lora_bias: true }, 'adapter-unsupported', /'lora_bias'/],
    ['whole modules', { modules_to_save: ['lm_head'] }, 'adapter-unsupported', /'modules_to_save'.*lm_head/],
    ['transposed weights', { fan_in_fan_out: true }, 'adapter-unsupported', /'fan_in_fan_out'/],
    ['repeated layers', { layer_replication: [[0, 2]] }, 'adapter-unsupported', /'layer_replication'/],
    ['a switch in the text', { alora_invocation_tokens: [1, 2] }, 'adapter-unsupported', /aLoRA/],
    ['a changed base', { init_lora_weights: 'pissa_niter_4' }, 'adapter-unsupported', /path_initial_model/],
    ['patterns', { alpha_pattern: { '.*[02468].*q_proj': 4 } }, 'adapter-unsupported', /'alpha_pattern'.*names/],
    ['a rank of zero', { r: 0 }, 'config-invalid', /'r' must be a whole number.* but is 0/],
    ['no rank', { r: undefined }, 'config-invalid', /'r' must/],
    ['a rank in words', { r: 'four' }, 'config-invalid', /'r'.*"four"/],
    ['no alpha', { lora_alpha: null }, 'config-invalid', /'lora_alpha'.*null/],
    [
      'a rank by module that is none',
      { rank_pattern: { q_proj: 1.5 } },
      'config-invalid',
      /'rank_pattern.q_proj'.*1.5/,
    ],
    ['a list for patterns', { alpha_pattern: [1] }, 'config-invalid', /'alpha_pattern'/],
    ['targets that are none', { target_modules: [1] }, 'config-invalid', /'target_modules/],
    ['another rank than the matrices have', { r: 5 }, 'tensor-mismatch', /rank 5.*"a-model"/],
    ['targets without matrices', { target_modules: ['q_proj', 'v_proj', 'k_proj'] }, 'tensor-missing', /"k_proj"/],
    ['matrices without targets', { target_modules: ['q_proj'] }, 'config-invalid', /'target_modules'.*v_proj/],
    ['all linear layers where some are not there', { target_modules: 'all-linear' }, 'tensor-missing', /"k_proj"/],
  ])('for what adapter_config.json says: %s', async (_, fields, code, message) => {
    const error = await refusal(await write({ fields }));
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
  });

  const extra = (name: string, shape: readonly number[] = [4, 24]): Record<string, TensorData> => {
    return { [name]: { dtype: 'F32', shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)) } };
  };

  it.each<[string, Record<string, TensorData>, ModelError['code'], RegExp]>([
    ['an embedding', extra('base_model.model.model.embed_tokens.lora_embedding_A'), 'adapter-unsupported', /embed/],
    ['a head', extra(nameOf('lm_head', 'A')), 'adapter-unsupported', /lm_head/],
    ['a whole head', extra('base_model.model.lm_head.weight'), 'adapter-unsupported', /heads and whole modules/],
    ['a bias', extra(`base_model.model.${query(0)}.lora_B.bias`, [24]), 'adapter-unsupported', /biases/],
    [
      'lengths of rows',
      extra(`base_model.model.${query(0)}.lora_magnitude_vector`, [24]),
      'adapter-unsupported',
      /magni/,
    ],
    ['names of another layout', extra(`${query(0)}.lora_A.weight`), 'adapter-unsupported', /as PEFT names them/],
    ['a layer too many', extra(nameOf(query(2), 'A')), 'tensor-mismatch', /2 layers.*another model.*"a-model"/],
    [
      'a projection that there is not',
      extra(nameOf('model.layers.0.mlp.gate_up_proj', 'A')),
      'tensor-mismatch',
      /gate_up/,
    ],
    ['a norm', extra(nameOf('model.layers.0.input_layernorm', 'A')), 'tensor-mismatch', /input_layernorm/],
    ['a half', extra(nameOf('model.layers.0.self_attn.k_proj', 'A')), 'tensor-missing', /lora_B.*other half/],
    ['another width', extra(nameOf(query(0), 'A'), [4, 32]), 'tensor-mismatch', /\[4,24\].*\[4,32\].*another model/],
    ['another height', extra(nameOf(query(0), 'B'), [32, 4]), 'tensor-mismatch', /\[24,4\].*\[32,4\]/],
    [
      'integers',
      { [nameOf(query(0), 'A')]: { dtype: 'I8', shape: [4, 24], data: new Uint8Array(96) } },
      'dtype-unsupported',
      /I8/,
    ],
  ])('for its tensors: %s', async (_, tensors, code, message) => {
    const error = await refusal(await write({}, { ...adapterTensors(config), ...tensors }));
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
  });

  it('for its files, with what to do', async () => {
    expect(await refusal(join(root, 'nowhere'))).toMatchObject({ code: 'model-not-found' });
    const folder = await write();
    await rename(join(folder, 'adapter_model.safetensors'), join(folder, 'adapter_model.bin'));
    expect((await refusal(folder)).message).toMatch(/pickles.*safe_serialization/);
    const empty = await write({}, {});
    expect(await refusal(empty)).toMatchObject({ code: 'tensor-missing' });
    await writeFile(join(empty, 'adapter_config.json'), '{"r": 1, "r": 2}');
    const broken = { code: 'config-invalid', message: expect.stringMatching(/adapter_config.json.*"r" twice/) };
    expect(await refusal(empty)).toMatchObject(broken);
    const model = join(root, String(folders++));
    await mkdir(model);
    await writeModelFolder(model, config);
    expect((await refusal(model)).message).toMatch(/whole model/);
    await expect(openModelFolder(await write())).rejects.toThrow(/This is an adapter/);
  });
});

/** A value that a field of adapter_config.json may be given. */
const anything = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(true, false, null, 0, 1, -1, 1e9, '', 'LORA', 'none', 'all-linear', [], {}, ['q_proj']),
);

describe('whatever is changed about a folder', () => {
  it('it opens and fits the model, or is refused by a ModelError that names it', async () => {
    const folder = await write();
    const [jsonFile, tensorFile] = ['adapter_config.json', 'adapter_model.safetensors'].map((name) =>
      join(folder, name),
    );
    const [json, bytes] = [JSON.parse(await readFile(jsonFile!, 'utf8')), await readFile(tensorFile!)];
    const change = fc.oneof(
      fc.record({ field: fc.constantFrom(...Object.keys(json)), value: anything }),
      fc.record({ at: fc.nat(bytes.readUInt32LE(0) + 16), byte: fc.nat(255) }),
      fc.record({ length: fc.nat(bytes.length) }),
    );
    const tensors = adapterTensors(config);
    const names = Object.keys(tensors);
    const others = fc.record({ drop: fc.subarray(names), wide: fc.option(fc.constantFrom(...names)) });
    await fc.assert(
      fc.asyncProperty(fc.oneof(change, others), async (what) => {
        let changed: unknown = json;
        let data: Uint8Array = bytes;
        if ('field' in what) changed = { ...json, [what.field]: what.value };
        else if ('byte' in what)
          data = Buffer.concat([bytes.subarray(0, what.at), Buffer.of(what.byte), bytes.subarray(what.at + 1)]);
        else if ('length' in what) data = bytes.subarray(0, what.length);
        if ('drop' in what) {
          const left = Object.entries(tensors).filter(([name]) => !what.drop.includes(name));
          const widened = left.map(([name, tensor]) => {
            const shape = name === what.wide ? tensor.shape.toReversed() : tensor.shape;
            return [name, { ...tensor, shape }] as const;
          });
          await writeAdapter(folder, config, {}, Object.fromEntries(widened));
        } else {
          await writeFile(jsonFile!, JSON.stringify(changed));
          await writeFile(tensorFile!, data);
        }
        try {
          await using adapter = await openAdapterFolder(folder, config);
          expect(adapter.updates.size).toBeGreaterThan(0);
          for (const [name, { a, b, rank, scale }] of adapter.updates) {
            const [outputs, inputs] = modulesOf(config).get(name.slice(0, -'.weight'.length))!;
            expect(adapter.source.tensors.get(a)!.shape).toEqual([rank, inputs]);
            expect(adapter.source.tensors.get(b)!.shape).toEqual([outputs, rank]);
            expect(scale).toBeGreaterThan(0);
            expect(scale).toBeLessThan(Number.POSITIVE_INFINITY);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
          expect((error as ModelError).message).toContain(folder);
        }
      }),
      { numRuns: 250 },
    );
  });
});
