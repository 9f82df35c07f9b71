/** What all backends promise of tensors, views and recordings: who owns them, and what follows when they are disposed. */
import { describe, expect, it } from 'vitest';
import type { Backend, Tensor } from '../engine/backend.ts';
import { CpuBackend } from '../engine/index.ts';
import { gatherRows } from '../kernels/gather-rows/index.ts';
import { openTestDevice, testDevices } from './support/devices.ts';

const open = (device: (typeof testDevices)[number] | 'plain TypeScript'): Promise<Backend> | Backend =>
  device === 'plain TypeScript' ? new CpuBackend() : openTestDevice(device);

/** Rows of threes, and an operation that takes the first one four times. */
function threes(device: Backend) {
  const x = device.allocate('x', 'f32', [4, 4]);
  const rows = device.allocate('rows', 'u32', [4]);
  const out = device.allocate('out', 'f32', [4, 4]);
  device.write(x, new Float32Array(16).fill(3));
  return { x, rows, out, pick: (from: Tensor = x) => device.run(gatherRows, { x: from, rows, out }) };
}

const disposed = (name: string) =>
  expect.objectContaining({ code: 'disposed', message: expect.stringMatching(new RegExp(`^${name} was disposed`)) });

describe.each([...testDevices, 'plain TypeScript'] as const)('on %s', (name) => {
  it('a view owns nothing', async () => {
    await using device = await open(name);
    const { x, out, pick } = threes(device);
    const { liveBytes } = device.memory;
    x.view([2, 4]).view([1, 4])[Symbol.dispose]();
    expect(device.memory.liveBytes).toBe(liveBytes);
    // Would be put where x is, if that were free.
    device.write(device.allocate('y', 'f32', [4, 4]), new Float32Array(16).fill(9));
    pick();
    expect(new Set(await device.read(out))).toEqual(new Set([3]));
  });

  it('a tensor that was disposed is refused, and so are its views, what is queued is not', async () => {
    await using device = await open(name);
    const { x, out, pick } = threes(device);
    const view = x.view([4, 4]);
    pick(view);
    const before = device.read(out);
    x[Symbol.dispose]();
    const { liveBytes } = device.memory;
    x[Symbol.dispose]();
    for (const tensor of [x, view]) {
      expect(() => pick(tensor)).toThrow(disposed("'x'"));
      expect(() => device.record(() => pick(tensor))).toThrow(disposed("'x'"));
      expect(() => device.write(tensor, new Float32Array(16))).toThrow(disposed("'x'"));
      expect(() => device.writeRows(tensor, 0, [new Uint8Array(16)])).toThrow(disposed("'x'"));
      await expect(device.read(tensor)).rejects.toEqual(disposed("'x'"));
    }
    expect(new Set(await before)).toEqual(new Set([3]));
    expect(device.memory.liveBytes).toBeLessThanOrEqual(liveBytes);
    // Nothing of it came to the device, which goes on.
    const { out: another, pick: pickAgain } = threes(device);
    pickAgain();
    expect(new Set(await device.read(another))).toEqual(new Set([3]));
  });

  it('a recording is refused once it, or a tensor in it, was disposed', async () => {
    await using device = await open(name);
    const { x, rows, out, pick } = threes(device);
    const ended = device.record(pick);
    const kept = device.record(pick);
    expect(kept.operations).toBe(1);
    device.replay(ended);
    ended[Symbol.dispose]();
    ended[Symbol.dispose]();
    expect(() => device.replay(ended)).toThrow(disposed('A recording'));
    device.write(x, new Float32Array(16).fill(5));
    device.replay(kept);
    expect(new Set(await device.read(out))).toEqual(new Set([5]));
    rows[Symbol.dispose]();
    expect(() => device.replay(kept)).toThrow(disposed("'rows'"));
    expect(new Set(await device.read(out))).toEqual(new Set([5]));
  });
});
