import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { packageVersion } from '../guard/version.ts';

test('the package says its own version', () => {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));
  expect(packageVersion).toBe(version);
});
