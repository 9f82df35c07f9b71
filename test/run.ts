/**
 * `npm test`: sees to it that there is a WebGPU adapter, runs vitest, and ends with `N passed, N failed`.
 * `GUARD_TEST_DEVICES=cpu` leaves WebGPU out, and says so.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const run = (command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env) =>
  spawnSync(command, args, { stdio: 'inherit', env }).status ?? 1;

/** In a process of its own: a driver installed a moment ago is not seen by one that looked before. */
const hasAdapter = () => run(process.execPath, ['--import', 'tsx', here('./support/has-adapter.ts')]) === 0;

function ensureAdapter(): void {
  if (hasAdapter()) return;
  console.log('No WebGPU adapter found: setting up software Vulkan.');
  run('bash', [here('./setup-vulkan.sh')]);
  if (hasAdapter()) return;
  console.error(`
The tests run the kernels on WebGPU and found no adapter. On Debian 13 or a recent Ubuntu, as root:
    apt-get update && apt-get install mesa-vulkan-drivers libvulkan1
On Debian 12 its own driver is too old; add the suite bookworm-backports to apt's sources first, then:
    apt-get update && apt-get install -t bookworm-backports mesa-vulkan-drivers libvulkan1
To leave WebGPU out: GUARD_TEST_DEVICES=cpu npm test`);
  process.exit(1);
}

const devices = process.env.GUARD_TEST_DEVICES ?? 'webgpu,cpu';
const onlyCpu = devices === 'cpu';
if (!onlyCpu) ensureAdapter();

const folder = mkdtempSync(join(tmpdir(), 'guard-test-'));
const report = join(folder, 'report.json');
const status = run(
  process.execPath,
  [
    here('../node_modules/vitest/vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2),
  ],
  { ...process.env, GUARD_TEST_DEVICES: devices },
);
const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, 'utf8'));
rmSync(folder, { recursive: true });
if (onlyCpu)
  console.log('Left out, as GUARD_TEST_DEVICES=cpu asked: every test of the kernels and the guard on WebGPU.');
// A file that fails to load has no failing test, but has failed all the same.
const failed = Math.max(numFailedTests, status === 0 ? 0 : 1);
console.log(`${numPassedTests} passed, ${failed} failed`);
process.exit(status === 0 && numPassedTests > 0 ? 0 : 1);
