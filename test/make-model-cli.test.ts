import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

const main = fileURLToPath(new URL('../bench/make-model/main.ts', import.meta.url));

const run = (...args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
  new Promise((resolve) => {
    const child = execFile(process.execPath, ['--import', 'tsx', main, ...args], (_, stdout, stderr) =>
      resolve({ code: child.exitCode!, stdout, stderr }),
    );
  });

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'make-model-cli-'));
});
afterAll(() => rm(root, { recursive: true }));

it('writes a model and an adapter, and refuses a folder that is taken', async () => {
  const [model, adapter, template] = ['model', 'adapter', 'template.jinja'].map((name) => join(root, name)) as [
    string,
    string,
    string,
  ];
  await writeFile(template, '{{ messages }}');
  const flags = ['--like', 'tiny-llama-2', '--seed', '3', '--out', model, '--dtype', 'f32', '--shards', '2'];
  const made = await run(...flags, '--chat-template', template);
  expect(made).toMatchObject({ code: 0 });
  expect(made.stdout).toMatch(/\d+ {2}model-00001-of-00002\.safetensors\n/);
  expect(made.stderr).toMatch(/No tokenizer that fits/);
  expect(JSON.parse(await readFile(join(model, 'config.json'), 'utf8')).torch_dtype).toBe('float32');

  const [taken, adapted] = await Promise.all([
    run('--like', 'tiny-llama-2', '--out', model),
    run('--like', 'tiny-llama-2', '--out', adapter, '--lora', 'rank=2,alpha=4,targets=q_proj'),
  ]);
  expect(taken).toMatchObject({ code: 2, stdout: '' });
  expect(taken.stderr).toMatch(/must be empty, but holds config\.json/);
  expect(adapted).toMatchObject({ code: 0, stderr: '' });
  expect(adapted.stdout).toMatch(/adapter_model\.safetensors/);
});

it.each([
  ['--like', 'llama-9', '--out', 'x'],
  ['--like', 'tiny-qwen3', '--out', 'x', '--lora', 'rank=two'],
  ['--like', 'tiny-qwen3', '--out', 'x', '--scale', '2'],
])('refuses what it cannot mean: %s %s %s %s %s %s', async (...args) => {
  const { code, stdout, stderr } = await run(...args);
  expect(code).toBeGreaterThan(0);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/Allowed choices are|must look like rank=8|must be above 0 and at most 1/);
});
