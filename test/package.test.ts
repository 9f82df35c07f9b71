import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bundleForPage } from './support/bundle.ts';
import { installPackage, manifest } from './support/installed-package.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What a user writes, in the strictest TypeScript. */
const program = `
import { Guard, type Assessment, type LoadOptions, type Message } from 'llama-guard-webgpu';
import { openWebGpuDevice } from 'llama-guard-webgpu/engine';
import { availableThreads, openWebGpu } from 'llama-guard-webgpu/engine/node';

const conversation: Message[] = [
  { role: 'user', content: 'How do I kill a process in Linux?' },
  { role: 'assistant', content: 'Find its number with ps, then run kill.' },
];
const options: LoadOptions = { device: 'cpu', threads: availableThreads(), onProgress: ({ loadedBytes }) => void loadedBytes };
const guard = await Guard.load(undefined, options);
const assessment: Assessment = await guard.check(conversation, { categories: 'joint' });
console.log(JSON.stringify([assessment.flagged, assessment.categories[0]?.code, typeof openWebGpuDevice, typeof openWebGpu]));
await guard[Symbol.asyncDispose]();
`;

const entries = Object.entries(manifest.exports as Record<string, string | Record<string, string>>);
/** What programs may import, files that are no modules left out. */
const modules = entries
  .filter(([, value]) => typeof value === 'object')
  .map(([name]) => name.replace('.', manifest.name));

describe('the package, as it is published', () => {
  let folder: string;
  let installed: string;
  const inFolder = (name: string) => join(folder, name);
  const run = (args: readonly string[]) =>
    spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8', timeout: 60_000 });

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'guard-package-'));
    installed = installPackage(folder);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each([
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
    'docs/policies.md',
    'docs/evaluation.md',
    'docs/calibration.md',
    'dist/guard/evaluation/maps/openai-moderation.json',
    'dist/guard/models/tiny-guard/model.safetensors',
    'dist/guard/models/tiny-guard/tokenizer.model',
    'dist/guard/models/tiny-guard/policy.json',
    'dist/guard/models/tiny-guard/README.md',
    'dist/guard/policies/policy.schema.json',
  ])('holds %s', (file) => {
    expect(existsSync(join(installed, file))).toBe(true);
  });

  it('has everything that it says it exports', () => {
    for (const target of entries.flatMap(([, value]) => (typeof value === 'string' ? value : Object.values(value)))) {
      expect(existsSync(join(installed, target)), target).toBe(true);
    }
    const report = `${manifest.name}/evaluation/report`;
    const light = modules.filter((name) => name !== report);
    const script = `console.log((await Promise.all(${JSON.stringify(light)}.map((name) => import(name)))).map((m) => Object.keys(m).length > 0).join())`;
    const { stdout, stderr } = run(['--input-type=module', '-e', script]);
    expect({ stdout, stderr }).toEqual({ stdout: `${light.map(() => true).join()}\n`, stderr: '' });
    // It is drawn by packages that whoever wants it installs.
    expect(run(['--input-type=module', '-e', `await import('${report}')`]).stderr).toMatch(
      /Cannot find package '(@observablehq\/plot|linkedom)'/,
    );
  });

  it('is typed for the strictest TypeScript, and does what the types say', () => {
    const all = modules.map((name, i) => `export * as module${i} from ${JSON.stringify(name)};\n`);
    writeFileSync(inFolder('program.ts'), program);
    writeFileSync(inFolder('all.ts'), all.join(''));
    // ES2022 has no Disposable: the declarations bring it.
    const compilerOptions = {
      target: 'es2022',
      module: 'nodenext',
      lib: ['ES2022', 'DOM', 'DOM.Iterable'],
      types: [],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
    };
    writeFileSync(inFolder('tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts', 'all.ts'] }));
    const tsc = run([join(root, 'node_modules/typescript/bin/tsc'), '-p', '.']);
    expect(tsc.stdout).toBe('');
    expect(tsc.status).toBe(0);
    const { stdout, stderr } = run(['program.js']);
    expect({ stdout, stderr }).toEqual({ stdout: '[false,"O1","function","function"]\n', stderr: '' });
  });

  it('goes into a page with any bundler, and takes nothing along that is of Node.js', async () => {
    writeFileSync(inFolder('page.js'), "export { Guard } from 'llama-guard-webgpu/browser';\n");
    const { files, metafile } = await bundleForPage(folder, { page: inFolder('page.js') });
    expect([...files.keys()]).toContain('/page.js');
    const imports = Object.values(metafile.outputs).flatMap((output) => output.imports);
    expect(imports.filter(({ external }) => external)).toEqual([]);
    const sources = Object.keys(metafile.inputs);
    expect(
      sources.filter((path) => /node:|node_modules\/(webgpu|sentencepiece-js)\/|\/(node|cli)\//.test(path)),
    ).toEqual([]);
    expect(sources).toContainEqual(expect.stringMatching(/tokenizer\/sentencepiece-js\/browser\.js$/));
  });

  it('brings its command', () => {
    const bin = join(installed, manifest.bin['llama-guard']);
    expect(readFileSync(bin, 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
    const { status, stdout } = run([bin, 'check', 'Hello', '--json', '--device', 'cpu']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ flagged: false, model: 'tiny-guard' });
    expect(run([bin, '--version']).stdout).toBe(`${manifest.version}\n`);
  });

  it('says what to install for a report, which alone needs more', () => {
    writeFileSync(inFolder('data.jsonl'), '{"messages":[{"role":"user","content":"Hi"}],"unsafe":0}\n');
    const bin = join(installed, manifest.bin['llama-guard']);
    const { status, stderr } = run([bin, 'eval', 'data.jsonl', '--report', 'report.html', '--device', 'cpu']);
    expect(stderr).toContain('npm install @observablehq/plot linkedom');
    expect(status).toBe(2);
  });
});
