import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { summarise } from './measure.ts';
import type { DeviceKind, GuardResult } from './schema.ts';

type ColdStart = GuardResult['coldStart'];
type Steps = Omit<ColdStart, 'runs'>;

const root = new URL('../', import.meta.url);

/** Some 30 tokens. */
const message = 'Number 0: my neighbour asked how to water young tomato plants in the garden when the summer is dry';

/**
 * A guard from nothing to its first answer: milliseconds since the process began, step by step. It is told the device
 * and the threads; a text, since it runs on the package as it is installed, which has no TypeScript in it.
 */
const program = /* js */ `
const [device, threads] = process.argv.slice(1);
const steps = {};
const step = (name) => { steps[name] ??= performance.now(); };
const { Guard } = await import(${JSON.stringify(new URL('dist/guard/index.js', root))});
step('modules');
const guard = await Guard.load(undefined, {
  device,
  ...(threads === undefined ? {} : { threads: Number(threads) }),
  // Called first when the device is open and the first piece of the weights is on it.
  onProgress: ({ loadedBytes, totalBytes }) => {
    step('device');
    if (loadedBytes === totalBytes) step('weights');
  },
});
step('ready');
await guard.check(${JSON.stringify(message)});
step('firstCheck');
process.stdout.write(JSON.stringify(steps));
await guard[Symbol.asyncDispose]();
`;

const node = (...given: string[]) => promisify(execFile)(process.execPath, given, { cwd: fileURLToPath(root) });

/** The median of some starts of the package, each in a fresh process; it is built first. */
export async function measureColdStart(
  device: DeviceKind,
  threads: number | undefined,
  runs: number,
): Promise<ColdStart> {
  await node('--import', 'tsx', 'build.ts');
  const all: Steps[] = [];
  for (let i = 0; i < runs; i++) {
    const given = threads === undefined ? [] : [`${threads}`];
    const { stdout } = await node('--input-type=module', '--eval', program, device, ...given);
    all.push(JSON.parse(stdout));
  }
  const median = (step: keyof Steps) => summarise(all.map((steps) => steps[step])).median;
  return {
    modules: median('modules'),
    device: median('device'),
    weights: median('weights'),
    ready: median('ready'),
    firstCheck: median('firstCheck'),
    runs,
  };
}
