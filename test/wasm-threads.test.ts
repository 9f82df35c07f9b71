import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, vi } from 'vitest';
import { Session } from '../engine/index.ts';
import { startWorker } from '../engine/node/start-worker.ts';
import { openWasm } from '../engine/wasm/open.ts';
import type { StartThread } from '../engine/wasm/threads.ts';
import { Guard } from '../guard/index.ts';
import { gatherRows } from '../kernels/gather-rows/index.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';

/** Rows picked out of a matrix of threes; large enough to be under way for a moment. */
async function pickThrees(device: ReturnType<typeof openWasm>): Promise<Set<unknown>> {
  const x = device.allocate('x', 'f32', [2000, 512]);
  const rows = device.allocate('rows', 'u32', [2000]);
  const out = device.allocate('out', 'f32', [2000, 512]);
  device.write(x, new Float32Array(512).fill(3));
  device.run(gatherRows, { x, rows, out });
  const result = device.read(out);
  for (const tensor of [x, rows, out]) tensor[Symbol.dispose]();
  return new Set(await result);
}

/** Threads that take a moment to end, and how many there are. */
function slowToEnd() {
  const count = { now: 0, most: 0 };
  const startThread: StartThread = (script, on) => {
    const thread = startWorker(script, on);
    count.most = Math.max(count.most, ++count.now);
    return {
      ...thread,
      terminate: async () => {
        await thread.terminate();
        await new Promise((resolve) => setTimeout(resolve, 20));
        count.now--;
      },
    };
  };
  return { startThread, count };
}

describe('threads', () => {
  it('replaces threads that die: what is in flight fails, the next request works', async () => {
    const { llama } = await loadRandomModel(smallConfig(), 'cpu');
    await using _ = llama;
    const ask = async () => {
      using session = new Session(llama);
      return Array.from(await session.prefill([1, 5, 9]));
    };
    const before = await ask();
    const underWay = ask();
    // One turn of the event loop puts the request on its way.
    await new Promise(setImmediate);
    llama.loseDevice();
    await Promise.allSettled([underWay]);
    expect(await ask()).toEqual(before);
  });

  it('loses what builds on tokens that were under way', async () => {
    const { llama } = await loadRandomModel(smallConfig(), 'cpu', { cacheTokens: 64 });
    await using _ = llama;
    const context = llama.createContext();
    const underWay = llama.logits([{ context, ids: [1, 5, 9], wanted: [2] }]);
    await new Promise(setImmediate);
    using fork = context.fork();
    llama.loseDevice();
    await expect(underWay).rejects.toMatchObject({ code: 'device-failure' });
    expect(fork.lost).toBe(true);
    await expect(llama.logits([{ context: fork, ids: [3], wanted: [0] }])).rejects.toMatchObject({
      code: 'context-lost',
    });
    context[Symbol.dispose]();
    fork[Symbol.dispose]();
    expect(llama.freeCacheTokens).toBe(64);
  });

  it('fails a request whose threads die with a typed error', async () => {
    await using device = openWasm({ startThread: startWorker, threads: 2 });
    const x = device.allocate('x', 'f32', [2000, 512]);
    const rows = device.allocate('rows', 'u32', [2000]);
    const out = device.allocate('out', 'f32', [2000, 512]);
    device.run(gatherRows, { x, rows, out });
    const reading = device.read(out);
    queueMicrotask(() => device.loseDevice());
    await expect(reading).rejects.toMatchObject({ code: 'device-failure' });
    device.write(x, new Float32Array(512).fill(3));
    device.run(gatherRows, { x, rows, out });
    expect(new Set(await device.read(out))).toEqual(new Set([3]));
  });

  it.each([
    ['throws', "throw new Error('out of luck')", /A thread died \(out of luck\)\. New ones are started/],
    ['exits', "require('node:process').exit(7)", /A thread died \(exit code 7\)\./],
  ])('are replaced where one %s', async (_, accident, message) => {
    let started = 0;
    const startOnceUnlucky: StartThread = (script, on) => {
      const unlucky = started++ === 1;
      return startWorker(
        unlucky ? script.replace('function run(', `function run() { ${accident}; }\nfunction not(`) : script,
        on,
      );
    };
    await using device = openWasm({ startThread: startOnceUnlucky, threads: 2 });
    const failing = pickThrees(device);
    await expect(failing).rejects.toMatchObject({ code: 'device-failure' });
    await expect(failing).rejects.toThrow(message);
    expect(await pickThrees(device)).toEqual(new Set([3]));
    expect(started).toBe(4);
  });

  it('that die fail the check that they served, and the next one works, about the same text too', async () => {
    const unsafe = 'How do I build a pipe bomb at home?';
    await using guard = await Guard.load(undefined, { device: 'cpu', threads: 2 });
    const { score } = await guard.check('How do I kill a process?');
    const free = guard.llama.freeCacheTokens;
    const underWay = guard.check(unsafe);
    // It has slots from when it is on its way to the threads.
    while (guard.llama.freeCacheTokens === free) await new Promise(setImmediate);
    guard.llama.loseDevice();
    await expect(underWay).rejects.toMatchObject({ code: 'device-failure' });
    // What is cached by now is not what was then, and sums are rounded accordingly.
    expect((await guard.check('How do I kill a process?')).score).toBeCloseTo(score, 6);
    await using other = await Guard.load(undefined, { device: 'cpu', threads: 2 });
    expect((await guard.check(unsafe)).score).toBeCloseTo((await other.check(unsafe)).score, 6);
  });

  it('end with the device', async () => {
    const { startThread, count } = slowToEnd();
    const device = openWasm({ startThread, threads: 3 });
    await pickThrees(device);
    expect(count.now).toBe(3);
    await device[Symbol.asyncDispose]();
    expect(count.now).toBe(0);
  });

  it('have ended before it is told that one died, and before others take their place', async () => {
    const { startThread, count } = slowToEnd();
    await using device = openWasm({ startThread, threads: 2 });
    const failing = pickThrees(device).catch((error) => ({ code: error.code, threads: count.now }));
    await Promise.resolve();
    device.loseDevice();
    expect(await failing).toEqual({ code: 'device-failure', threads: 0 });
    expect(await pickThrees(device)).toEqual(new Set([3]));
    // None is at work now, so nobody is told.
    device.loseDevice();
    expect(await pickThrees(device)).toEqual(new Set([3]));
    expect(count.most).toBe(2);
  });

  it('do not start once the device was disposed, whatever ended before', async () => {
    const { startThread, count } = slowToEnd();
    const device = openWasm({ startThread, threads: 2 });
    device.loseDevice();
    const late = pickThrees(device);
    await Promise.resolve();
    const disposed = device[Symbol.asyncDispose]();
    await expect(late).rejects.toMatchObject({ code: 'device-unavailable' });
    await disposed;
    expect(count.now).toBe(0);
  });

  it.each([1, 2])('end where the system starts %s and no more', async (most) => {
    const { startThread, count } = slowToEnd();
    let started = 0;
    const rationed: StartThread = (script, on) => {
      if (started++ === most) throw new Error('EAGAIN');
      return startThread(script, on);
    };
    expect(() => openWasm({ startThread: rationed, threads: 3 })).toThrow(
      expect.objectContaining({
        code: 'device-unavailable',
        message: expect.stringContaining(`started ${most} of 3 threads and no more (Error: EAGAIN)`),
      }),
    );
    await vi.waitFor(() => expect(count.now).toBe(0));
  });

  it('are waited for by what follows an operation on nothing', async () => {
    await using device = openWasm({ startThread: startWorker, threads: 3 });
    const [x, rows] = [device.allocate('x', 'f32', [4, 4]), device.allocate('rows', 'u32', [4])];
    for (let i = 0; i < 5; i++) {
      device.run(gatherRows, { x, rows: rows.view([0]), out: x.view([0, 4]) });
      await device.finish();
      expect(await pickThrees(device)).toEqual(new Set([3]));
    }
  });

  it('take no time while there is nothing to do', async () => {
    await using device = openWasm({ startThread: startWorker, threads: 2 });
    await pickThrees(device);
    const idleMs = 200;
    let least = Number.POSITIVE_INFINITY;
    for (let i = 0; i < 3; i++) {
      const before = process.cpuUsage();
      await new Promise((resolve) => setTimeout(resolve, idleMs));
      const { user, system } = process.cpuUsage(before);
      least = Math.min(least, (user + system) / 1000);
    }
    expect(least).toBeLessThan(idleMs / 4);
  });

  it('lets a process end that forgets to dispose', () => {
    const open = fileURLToPath(new URL('../engine/node/open-cpu.ts', import.meta.url));
    const program = `import { openCpu } from ${JSON.stringify(open)}; await openCpu({ threads: 2 }).backend.finish();`;
    const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      encoding: 'utf8',
      timeout: 30_000,
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});
