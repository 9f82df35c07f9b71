import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Guard } from '../guard/index.ts';
import { testDevices } from './support/devices.ts';

const kinds = testDevices.filter((device) => device !== 'webgpu without features');

/** Bytes that JavaScript holds, those outside of its heap too, once what nobody names was collected. */
function hostBytes(): number {
  globalThis.gc!();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

describe.each(kinds)('what a guard holds on %s', (device) => {
  it('is constant once warmed up, and nothing after disposal', async () => {
    const guard = await Guard.load(undefined, { device });
    const check = (i: number) =>
      guard.check(`Is number ${i % 10} a lucky number for my garden?`, { categories: i % 10 === 0 ? 'joint' : 'none' });
    // Twice each: a prompt that is known takes a pass of another shape.
    for (let i = 0; i < 20; i++) await check(i);
    const warm = guard.llama.memory;
    const before = hostBytes();
    for (let i = 0; i < 200; i++) await check(i);
    expect(guard.llama.memory).toEqual(warm);
    expect(hostBytes() - before).toBeLessThan(4 * 2 ** 20);
    await guard[Symbol.asyncDispose]();
    await guard[Symbol.asyncDispose]();
    expect(guard.llama.memory.liveBytes).toBe(0);
  });

  it.each(['disposes', 'forgets'])('does not keep a process alive that %s it', (habit) => {
    const index = fileURLToPath(new URL('../guard/index.ts', import.meta.url));
    const program = `
      import { Guard } from ${JSON.stringify(index)};
      const guard = await Guard.load(undefined, { device: ${JSON.stringify(device)} });
      console.log((await guard.check('Hello')).flagged);
      ${habit === 'disposes' ? 'await guard[Symbol.asyncDispose]();' : ''}`;
    const { status, stdout } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      encoding: 'utf8',
      timeout: 60_000,
    });
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'false\n' });
  });
});

/** More passes than the device is given at once, so that a check needs the event loop before it is over. */
const longText = 'And how does it feel about that? '.repeat(180);

/** Resolves once requests have taken their part of the key-value cache, which they do when they go on their way. */
async function onTheWay({ llama }: Guard, free: number): Promise<void> {
  while (llama.freeCacheTokens === free) await new Promise(setImmediate);
}

const losses = { webgpu: 'device-lost', cpu: 'device-failure' } as const;

describe.each(kinds)('%s lost midway', (device) => {
  it('rejects a check under way with a typed error, and the guard can be reopened', async () => {
    const lost = await Guard.load(undefined, { device });
    const question = 'How do I kill a process?';
    const before = await lost.check(question);
    const free = lost.llama.freeCacheTokens;
    const underWay = lost.check(`${question} ${longText}`);
    await onTheWay(lost, free);
    lost.llama.loseDevice();
    await expect(underWay).rejects.toMatchObject({ code: losses[device as keyof typeof losses] });
    await using guard = await lost.reopen();
    expect(lost.llama.memory.liveBytes).toBe(0);
    await expect(lost.check(question)).rejects.toMatchObject({ code: 'disposed' });
    expect((await guard.check(question)).score).toBe(before.score);
  });
});

describe('threads that die', () => {
  it('fail the check that they served; the guard goes on with new ones', async () => {
    await using guard = await Guard.load(undefined, { device: 'cpu', threads: 2 });
    const question = 'How do I kill a process?';
    const before = await guard.check(question);
    const free = guard.llama.freeCacheTokens;
    const underWay = guard.check(`${question} ${longText}`);
    await onTheWay(guard, free);
    guard.llama.loseDevice();
    await expect(underWay).rejects.toMatchObject({ code: 'device-failure' });
    const again = await guard.check(question);
    expect(Math.abs(again.score - before.score)).toBeLessThan(1e-6);
    expect(guard.llama.freeCacheTokens).toBeGreaterThan(guard.llama.cacheTokens / 2);
  });
});
