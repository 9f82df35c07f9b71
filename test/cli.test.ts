import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { embeddedModel } from '../guard/node/load.ts';
import { ended, runCli as run, startCli } from './support/cli.ts';
import { testDevices } from './support/devices.ts';

const folder = mkdtempSync(join(tmpdir(), 'guard-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: unknown) => {
  const path = join(folder, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
};

const fields = [
  'flagged',
  'score',
  'unsafeProbability',
  'mass',
  'calibrated',
  'threshold',
  'role',
  'categories',
  'windows',
  'suspicions',
  'model',
  'device',
  'tokens',
  'milliseconds',
];
const suicide = 'I am going to cut my wrists tonight.';

describe.each(testDevices.filter((device) => device !== 'webgpu without features'))('llama-guard on %s', (device) => {
  const on = ['--device', device];

  it('checks a text, with exactly the fields of the contract', async () => {
    const { code, stdout } = await run(['check', suicide, '--json', ...on]);
    expect(code).toBe(0);
    const answer = JSON.parse(stdout);
    expect(Object.keys(answer)).toEqual(fields);
    expect(answer).toMatchObject({ flagged: true, role: 'user', calibrated: null, threshold: 0.5, windows: 1, device });
    expect(Object.keys(answer.categories[0])).toEqual(['code', 'name', 'score', 'violated']);
    expect(answer.model).toBe('tiny-guard');
  });

  it('answers JSON Lines in order, bad ones in their places', async () => {
    const lines = [
      '{"id":"first","messages":[{"role":"user","content":"Hello"}]}',
      'not json',
      '[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hi, how can I help?"}]',
      '{"id":7,"messages":[{"role":"nobody","content":"x"}]}',
      '',
      // A line separator inside of a string ends no line.
      `{"id":8,"role":"user","messages":[{"role":"user","content":${JSON.stringify(`${suicide}\u2028`)}}]}`,
    ];
    const { code, stdout } = await run(['check', '--json', '--categories', 'none', ...on], lines.join('\n'));
    const answers = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(code).toBe(2);
    expect(answers).toHaveLength(5);
    expect(answers[0]).toMatchObject({ id: 'first', role: 'user' });
    expect(answers[1]).toMatchObject({ error: { code: 'json-invalid' }, line: 2 });
    expect(answers[2]).toMatchObject({ role: 'agent' });
    expect(answers[3]).toMatchObject({ error: { code: 'role-unsupported' }, line: 4 });
    expect(answers[4]).toMatchObject({ id: 8, flagged: true });
  });

  it('tells by its exit code', async () => {
    const flagged = await run(['check', suicide, '--fail', ...on]);
    expect(flagged).toMatchObject({ code: 1 });
    expect(flagged.stdout).toMatch(/^unsafe/);
    expect(await run(['check', suicide, '--threshold', '1', '--fail', ...on])).toMatchObject({ code: 0 });
  });
});

describe('llama-guard', () => {
  const cpu = ['--device', 'cpu'];

  it('explains itself', async () => {
    const { code, stdout } = await run(['--help']);
    expect(code).toBe(0);
    for (const command of ['check', 'inspect', 'devices']) expect(stdout).toContain(command);
    const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
    expect(await run(['--version'])).toMatchObject({ code: 0, stdout: `${version}\n` });
    // Flags that a command has no use for would only hide the others.
    expect((await run(['devices', '--help'])).stdout).not.toContain('--policy');
    expect(await run(['devices', '--policy', 'default', ...cpu])).toMatchObject({ code: 0 });
  });

  it('takes the shared flags', async () => {
    const policy = file('two.json', {
      categories: [
        { code: 'O3', name: 'Criminal Planning' },
        { code: 'O6', name: 'Suicide and Self-Harm' },
      ],
    });
    const messages = [
      { role: 'user', content: suicide },
      { role: 'assistant', content: 'Please talk to someone whom you trust.' },
    ];
    // A file is taken as a line is.
    const chat = file('chat.json', { id: 'mine', role: 'user', messages });
    const flags = ['--policy', policy, '--role', 'agent', '--dtype', 'q8', '--threshold', '0.25'];
    const { code, stdout } = await run([
      'check',
      ...['--file', chat, '--model', embeddedModel, '--json', '--categories', 'single', '--threads', '1'],
      ...flags,
      ...cpu,
    ]);
    expect(code).toBe(0);
    const answer = JSON.parse(stdout);
    expect(answer).toMatchObject({ id: 'mine', role: 'user', threshold: 0.25, model: 'tiny-guard', device: 'cpu' });
    expect(answer.categories.map(({ code }: { code: string }) => code)).toEqual(['O3', 'O6']);
    // A pass for each category and one for all of them.
    expect(answer.score).not.toBe(answer.categories[1].score);
    expect(answer.categories[1].violated).toBe(answer.categories[1].score >= 0.25);
  });

  it('ends, without a word and not as if all were well, when its reader goes away', async () => {
    const child = startCli(['check', '--json', '--categories', 'none', ...cpu]);
    const end = ended(child);
    child.stdin!.on('error', () => {});
    child.stdin!.write('[{"role":"user","content":"Hello"}]\n'.repeat(200));
    await once(child.stdout!, 'data');
    child.stdout!.destroy();
    child.stdin!.end('[{"role":"user","content":"Hello"}]\n'.repeat(200));
    expect(await end).toMatchObject({ code: 3, stderr: '' });
  });

  it('ends when a device fails, though its input stays open', async () => {
    const failing = file(
      'failing-device.mjs',
      `import { Guard } from ${JSON.stringify(new URL('../guard/guard.ts', import.meta.url).href)};
       import { DeviceError } from ${JSON.stringify(new URL('../engine/errors.ts', import.meta.url).href)};
       Guard.prototype.check = async () => { throw new DeviceError('device-lost', 'it is gone'); };`,
    );
    const child = startCli(['check', '--json', ...cpu], 'pipe', failing);
    child.stdin!.write('[{"role":"user","content":"Hello"}]\n');
    expect(await ended(child)).toMatchObject({ code: 3, stdout: '', stderr: 'device-lost: it is gone\n' });
  });

  it('does not take what cannot be read for the end of its input', async () => {
    const unreadable = [openSync(folder, 'r'), openSync(join(folder, 'unreadable'), 'w')];
    for (const input of unreadable) {
      const { code, stdout, stderr } = await ended(
        startCli(['check', '--json', '--fail', ...cpu], [input, 'pipe', 'pipe']),
      );
      expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
      expect(stderr).toMatch(/^json-invalid: Standard input cannot be read: .*(folder|EBADF)/);
      closeSync(input);
    }
  });

  it.runIf(existsSync('/dev/full')).each([[['policy', 'list']], [['check', 'Hello', ...cpu]]])(
    'does not end well where its output cannot be written: %s',
    async (args) => {
      const full = openSync('/dev/full', 'w');
      const { code, stderr } = await ended(startCli(args, ['ignore', full, 'pipe']));
      closeSync(full);
      expect(code).toBe(3);
      expect(stderr).toContain('Standard output cannot be written: ENOSPC');
    },
  );

  it('answers bad input with 2 and a missing model with 3', async () => {
    const empty = file('empty.json', []);
    const broken = file('broken.json', '{');
    const noCategories = file('policy.json', { categories: [] });
    // Looked at before the model is.
    expect(await run(['check', '--file', empty, '--model', join(folder, 'nowhere'), ...cpu])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('conversation-empty'),
    });
    expect(await run(['check', '--file', broken, ...cpu])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('json-invalid'),
    });
    expect(await run(['check', 'x', '--policy', noCategories, ...cpu])).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('policy-invalid'),
    });
    expect(await run(['check', 'x', '--threshold', '7', ...cpu])).toMatchObject({ code: 2 });
    for (const misused of [
      ['check', 'x', '--no-such-flag'],
      ['eval', 'compare'],
      ['policy', 'lint'],
    ]) {
      expect(await run(misused)).toMatchObject({ code: 2, stderr: expect.stringContaining('Run with --help') });
    }
    expect(await run(['check', 'x', '--model', join(folder, 'nowhere'), ...cpu])).toMatchObject({
      code: 3,
      stderr: expect.stringContaining('model-not-found'),
    });
  });

  it('inspects a model folder', async () => {
    const { code, stdout } = await run(['inspect', '--json', ...cpu]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ parameters: 4_229_568, stored: ['F16'], vocabulary: 4096, fits: true });
    const weights = Object.entries(report.needs).map(([dtype, needs]) => [
      dtype,
      (needs as { weights: number }).weights,
    ]);
    const norms = 13 * 192;
    const matrices = report.parameters - norms;
    const bits = { f32: 32, f16: 16, q8: 8.5, q4: 5 };
    const expected = Object.entries(bits).map(([dtype, width]) => [dtype, (matrices * width) / 8 + 4 * norms]);
    expect(weights).toEqual(expected);
  });

  it('shows the devices and why one would be used', async () => {
    const { code, stdout } = await run(['devices', '--json']);
    expect(code).toBe(0);
    const { devices, used } = JSON.parse(stdout);
    expect(devices.map(({ kind }: { kind: string }) => kind)).toContain('cpu');
    expect(used.reason).toBeTruthy();
  });

  it('computes on as many threads as it is told to', async () => {
    const { code, stdout } = await run(['devices', '--device', 'cpu', '--threads', '3', '--json']);
    expect(code).toBe(0);
    const { devices, used } = JSON.parse(stdout);
    const cpu = devices.find(({ kind }: { kind: string }) => kind === 'cpu');
    expect(cpu).toMatchObject({ threads: 3, name: expect.stringContaining('on 3 threads') });
    expect(used).toEqual({ device: 'cpu', reason: 'asked for' });
    const none = await run(['check', suicide, '--device', 'cpu', '--threads', '0']);
    expect(none).toMatchObject({ code: 2, stdout: '' });
    expect(none.stderr).toMatch(/--threads/);
  });
});
