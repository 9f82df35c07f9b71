/**
 * `npm run test:matrix`: verifies the kernels that use subgroup matrices, and the embedded model through them, on this
 * machine's adapter where it offers them and in software where it does not. Ends with `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openWebGpu } from '../engine/node/open-webgpu.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const run = (command: string, args: readonly string[]) => spawnSync(command, args, { stdio: 'inherit' }).status ?? 1;

/** The adapter's name and the products that a subgroup computes as one; none where there is no adapter. */
async function offered(): Promise<{ name: string; products: string[] }> {
  try {
    await using device = await openWebGpu();
    const products = device.traits.subgroupMatrixConfigs.map(
      ({ componentType, resultComponentType, M, N, K }) => `${componentType} -> ${resultComponentType} ${M}x${N}x${K}`,
    );
    return { name: device.description.name, products };
  } catch {
    return { name: 'no adapter', products: [] };
  }
}

const { name, products } = await offered();
console.log(`${name}: ${products.join(', ') || 'no subgroup matrices'}`);
if (products.length === 0) {
  if (process.argv.includes('--in-software')) {
    console.error('The software adapter does not offer subgroup matrices.');
    process.exit(1);
  }
  const again = ['node', '--import', 'tsx', 'test/matrix.ts', '--in-software'];
  process.exit(run('bash', [here('./matrix-vulkan.sh'), ...again]));
}

const folder = mkdtempSync(join(tmpdir(), 'guard-matrix-'));
const report = join(folder, 'report.json');
const status = run(process.execPath, [
  here('../node_modules/vitest/vitest.mjs'),
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
  // The family's kernels, which is chosen when, and the forward pass.
  ...['kernels', 'subgroup-matrix', 'engine-reference'].map((file) => here(`./${file}.test.ts`)),
  '--testNamePattern',
  'matmul(-add)? webgpu/.*, all features|subgroup matrices|on webgpu in f16',
]);
const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(report, 'utf8')) as {
  numPassedTests: number;
  numFailedTests: number;
  testResults: { assertionResults: { fullName: string; status: string }[] }[];
};
rmSync(folder, { recursive: true });
const passed = testResults.flatMap(({ assertionResults }) => assertionResults.filter((t) => t.status === 'passed'));
const verified = passed.filter(({ fullName }) => fullName.includes('webgpu/subgroup-matrix')).length;
const chosen = passed.some(({ fullName }) => fullName.includes('run the embedded model'));
console.log(
  `${verified} kernels with subgroup matrices verified; ${chosen ? '' : 'not '}chosen for the embedded model.`,
);
// A file that fails to load has no failing test, but has failed all the same.
const ok = status === 0 && verified > 0 && chosen;
console.log(`${numPassedTests} passed, ${Math.max(numFailedTests, ok ? 0 : 1)} failed`);
process.exit(ok ? 0 : 1);
