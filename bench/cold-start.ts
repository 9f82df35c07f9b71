/**
 * A guard from nothing to its first answer, once, in this process: milliseconds since the process began, step by step,
 * as JSON on standard output. Run by bench/guard.ts with the device as its argument, and the threads where they are told.
 */
import { messageOf } from './guard-scenarios.ts';

const steps: Record<string, number> = {};
const step = (name: string) => {
  steps[name] ??= performance.now();
};
const [device, threads] = process.argv.slice(2);
const { Guard } = await import('../guard/index.ts');
step('modules');
await using guard = await Guard.load(undefined, {
  device: device as 'webgpu' | 'cpu',
  ...(threads === undefined ? {} : { threads: Number(threads) }),
  // Called first when the device is open and the first piece of the weights is on it.
  onProgress: ({ loadedBytes, totalBytes }) => {
    step('device');
    if (loadedBytes === totalBytes) step('weights');
  },
});
step('ready');
await guard.check(messageOf(guard, 30));
step('firstCheck');
process.stdout.write(JSON.stringify(steps));
