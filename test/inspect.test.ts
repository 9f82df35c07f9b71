/** What `inspect` tells of a model folder: all that it holds, what it takes, and everything that would not work. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeModel } from '../bench/make-model/index.ts';
import { Guard } from '../guard/node/guard.ts';
import { type InspectOptions, inspectFolder } from '../guard/node/inspect.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { writeAdapter } from './support/adapter-files.ts';
import { runCli } from './support/cli.ts';
import { testDevices } from './support/devices.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'inspect-'));
});
afterAll(() => rm(root, { recursive: true }));

type Json = Record<string, unknown>;

const make = async (options: Partial<Parameters<typeof makeModel>[1]> = {}): Promise<string> => {
  const folder = await mkdtemp(join(root, 'model-'));
  await makeModel(folder, { like: 'llama-guard-3-1b', scale: 0.05, ...options });
  return folder;
};
const edit = async (folder: string, name: string, change: (json: Json) => void): Promise<void> => {
  const json = JSON.parse(await readFile(join(folder, name), 'utf8'));
  change(json);
  await writeFile(join(folder, name), JSON.stringify(json));
};
const inspect = (folder: string, options: InspectOptions = {}) => inspectFolder(folder, { device: 'cpu', ...options });

describe('of a folder that works, inspect tells', () => {
  it('what it holds and how the model is asked', async () => {
    const folder = await make();
    const found = await inspect(folder);
    expect(found).toMatchObject({
      architecture: 'LlamaForCausalLM',
      stored: ['BF16'],
      quantised: null,
      context: 131_072,
      tokenizer: 'tokenizer.json',
      template: join(folder, 'tokenizer_config.json'),
      format: 'llama-guard-3',
      dtype: 'f16',
      device: { kind: 'cpu', reason: 'asked for' },
      fits: true,
      findings: [],
    });
    expect(found.categories!.map(({ code }) => code)).toContain('S1');
    expect(found.config).toMatchObject({ vocabularySize: found.vocabulary, tieWordEmbeddings: true });
    expect(found.bytes).toBe(2 * found.parameters!);
  });

  it('how a quantised build is stored, and the dtype that its quants are taken over in', async () => {
    const folder = await make({ like: 'llama-guard-7b', scale: 0.08, quantised: 'gptq' });
    expect(await inspect(folder)).toMatchObject({
      quantised: 'GPTQ, 4 bits, groups of 32',
      dtype: 'q4',
      tokenizer: 'tokenizer.model',
      template: join(folder, 'tokenizer_config.json'),
      format: 'llama-guard-1',
      findings: [],
    });
    expect(await inspect(folder, { promptFormat: 'llama-guard-2' })).toMatchObject({
      format: 'llama-guard-2',
      template: null,
    });
  });

  it('the memory that it takes, within 5%', async () => {
    for (const device of testDevices.filter((each) => each !== 'webgpu without features')) {
      const { needs } = await inspect(embeddedModel, { device });
      for (const dtype of ['f16', 'q4'] as const) {
        await using guard = await Guard.load(embeddedModel, { device, dtype });
        await guard.check([{ role: 'user', content: 'How do I kill a process in Linux?' }]);
        const ratio = guard.llama.memory.liveBytes / needs![dtype].total;
        expect(ratio).toBeGreaterThan(0.95);
        expect(ratio).toBeLessThan(1.05);
      }
    }
  });
});

describe('of a folder that does not, inspect tells', () => {
  it('all that is wrong at once, each with its file and field', async () => {
    const folder = await make();
    await edit(folder, 'config.json', (json) => {
      json.hidden_act = 'gelu';
      json.rms_norm_eps = -1;
      json.vocab_size = 'many';
      json.rope_scaling = { rope_type: 'yarn', factor: 4 };
      json.quantization_config = { quant_method: 'aqlm' };
    });
    await edit(folder, 'tokenizer_config.json', (json) => {
      json.chat_template = '{% for m in messages %}{{ m.content }}';
    });
    await rm(join(folder, 'tokenizer.json'));
    await writeFile(join(folder, 'model.safetensors'), 'no such file');
    await writeFile(join(folder, 'policy.json'), '{}');
    const { findings, config, format } = await inspect(folder, { promptFormat: 'llama-guard-3' });
    expect({ config, format }).toEqual({ config: null, format: 'llama-guard-3' });
    const expected: [code: string, message: RegExp][] = [
      ['architecture-unsupported', /config\.json: 'hidden_act' must be 'silu', but is "gelu"/],
      ['architecture-unsupported', /config\.json: 'quantization_config': .*'quant_method' is "aqlm"/],
      ['architecture-unsupported', /config\.json: 'rope_scaling' must be .* but is of type "yarn"/],
      ['config-invalid', /config\.json: 'vocab_size' must .*; 'rms_norm_eps' must/],
      ['safetensors-invalid', /model\.safetensors: the header is said to be/],
      ['tokenizer-not-found', /neither a tokenizer\.json nor a tokenizer\.model/],
      ['policy-invalid', /policy\.json/],
    ];
    expect(findings.map(({ code }) => code)).toEqual(expected.map(([code]) => code));
    for (const [i, [, message]] of expected.entries()) expect(findings[i]!.message).toMatch(message);
    for (const { message } of findings) expect(message).toContain(folder);
    const unnamed = await inspect(folder);
    expect(unnamed.findings.map(({ code }) => code)).toContain('format-unknown');
  });

  it('weights of another shape, once for each kind of fault', async () => {
    const folder = await make();
    await edit(folder, 'config.json', (json) => {
      json.intermediate_size = (json.intermediate_size as number) + 32;
      json.num_hidden_layers = (json.num_hidden_layers as number) + 1;
    });
    const { findings } = await inspect(folder);
    expect(findings).toEqual([
      { code: 'tensor-missing', message: expect.stringMatching(/lack "model\.layers\.\d+\.input_layernorm.*8 others/) },
      {
        code: 'tensor-mismatch',
        message: expect.stringMatching(
          /model\.safetensors: tensor ".*gate_proj\.weight" must have.*So it is with \d+ more/,
        ),
      },
    ]);
  });

  it('that a tokenizer, a policy or an adapter is of another model', async () => {
    const folder = await make();
    const other = await make({ like: 'llama-guard-7b', scale: 0.05 });
    const { config } = await inspect(other);
    await writeAdapter(join(root, 'adapter'), config!);
    await edit(folder, 'config.json', (json) => {
      json.vocab_size = (json.vocab_size as number) - 16;
    });
    const { findings } = await inspect(folder, { mergedAdapter: join(root, 'adapter') });
    const codes = findings.map(({ code }) => code);
    expect(codes).toEqual(expect.arrayContaining(['tensor-mismatch', 'tokenizer-mismatch']));
    expect(findings.some(({ message }) => message.includes(join(root, 'adapter', 'adapter_model.safetensors')))).toBe(
      true,
    );
  });

  it('that the device has no room for it, and what would help', async () => {
    const { findings, fits, needs } = await inspect(embeddedModel, { cacheMemory: 2 ** 44 });
    expect(needs!.q4.cache).toBeGreaterThan(2 ** 43);
    expect(fits).toBe(false);
    expect(findings).toEqual([
      { code: 'out-of-memory', message: expect.stringMatching(/key-value cache .*Use a smaller key-value cache/) },
    ]);
  });

  it.each([
    ['consolidated.00.pth', /"consolidated\.00\.pth".*convert_llama_weights_to_hf --input_dir DIR/],
    ['params.json', /"params\.json".*convert_llama_weights_to_hf/],
    ['adapter_config.json', /This is an adapter/],
  ])('that %s is no Hugging Face model, and nothing else', async (name, message) => {
    const folder = await mkdtemp(join(root, 'other-'));
    await writeFile(join(folder, name), '{}');
    await writeFile(join(folder, 'tokenizer.model'), 'of another kind');
    expect((await inspect(folder)).findings).toEqual([
      { code: 'model-not-found', message: expect.stringMatching(message) },
    ]);
  });
});

it('the command ends with 2 and shows what is known, where something would not work', async () => {
  const folder = await make({ scale: 0.02 });
  await rm(join(folder, 'tokenizer.json'));
  await edit(folder, 'config.json', (json) => {
    json.rms_norm_eps = 'small';
  });
  const { code, stdout } = await runCli(['inspect', folder, '--device', 'cpu']);
  expect(code).toBe(2);
  expect(stdout).toMatch(/^would fail +config-invalid: .*'rms_norm_eps'/m);
  expect(stdout).toMatch(/^would fail +tokenizer-not-found: /m);
  expect(stdout).toMatch(/^format +llama-guard-3$/m);
});
