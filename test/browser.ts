/**
 * `npm run test:browser`: sees to it that there is a Chromium, and verifies the guard in pages of it, as it is published
 * and bundled. Ends with `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { findChromium } from './support/chromium.ts';
import { end, runVitest } from './support/vitest.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

if (!findChromium()) {
  console.log('No Chromium found: installing it.');
  spawnSync('bash', [here('./setup-chromium.sh')], { stdio: 'inherit' });
}
if (!findChromium()) {
  console.error(`
These tests run the guard in a page and found no Chromium. On Debian, as root:
    apt-get update && apt-get install chromium
Elsewhere install Chromium or Chrome, and where it is not on the PATH name it: CHROMIUM=/path/to/it npm run test:browser`);
  end({ passed: 0, failed: 1 });
}
end(runVitest(['--config', here('./browser/vitest.config.ts'), ...process.argv.slice(2)]));
