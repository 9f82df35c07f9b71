import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** What came of a run. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
  /** Full names of the tests that passed. */
  readonly names: readonly string[];
}

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly testResults: readonly {
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/** Runs vitest with these arguments, its output shown as it comes. */
export function runVitest(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Outcome {
  const folder = mkdtempSync(join(tmpdir(), 'guard-test-'));
  try {
    const report = join(folder, 'report.json');
    const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const { status } = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...args], { stdio: 'inherit', env });
    // A run that came to nothing, for want of its configuration say, leaves no report.
    if (!existsSync(report)) return { passed: 0, failed: 1, names: [] };
    const { numPassedTests, numFailedTests, testResults }: Report = JSON.parse(readFileSync(report, 'utf8'));
    const names = testResults.flatMap(({ assertionResults }) =>
      assertionResults.filter((test) => test.status === 'passed').map(({ fullName }) => fullName),
    );
    // A file that fails to load has no failing test, but has failed all the same; so has a run of no test.
    const whole = status === 0 && numPassedTests > 0;
    return { passed: numPassedTests, failed: Math.max(numFailedTests, whole ? 0 : 1), names };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Ends the process with the line that ends every run of tests. */
export function end({ passed, failed }: Pick<Outcome, 'passed' | 'failed'>): never {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
