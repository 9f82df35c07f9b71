/**
 * `npm test`: sees to it that there is a WebGPU adapter, runs vitest, and ends with `N passed, N failed`.
 * `GUARD_TEST_DEVICES=cpu` leaves WebGPU out, and says so.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { missing } from './support/shared.ts';
import { end, runVitest } from './support/vitest.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const run = (command: string, args: readonly string[]) => spawnSync(command, args, { stdio: 'inherit' }).status ?? 1;

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
  end({ passed: 0, failed: 1 });
}

const devices = process.env.GUARD_TEST_DEVICES ?? 'webgpu,cpu';
const onlyCpu = devices === 'cpu';
if (!onlyCpu) ensureAdapter();

const outcome = runVitest(process.argv.slice(2), { ...process.env, GUARD_TEST_DEVICES: devices });
if (onlyCpu) {
  console.log('Left out, as GUARD_TEST_DEVICES=cpu asked: every test of the kernels and the guard on WebGPU.');
}
if (missing().length > 0) {
  console.log(`Left out, as they are not there: tests that read ${missing().join(', ')}.`);
}
end(outcome);
