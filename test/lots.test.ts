import { describe, expect, it } from 'vitest';
import { Lots } from '../engine/lots.ts';

/** A device that takes what it was given when it is told to. */
function device() {
  const waiting: { take(): void; fail(): void }[] = [];
  const finish = () =>
    new Promise<void>((resolve, reject) => waiting.push({ take: resolve, fail: () => reject(new Error('lost')) }));
  return { finish, waiting };
}

const isSettled = (promise: Promise<unknown>) => {
  const later = new Promise((resolve) => setImmediate(resolve, false));
  return Promise.race([promise.then(() => true), later]);
};

describe('lots of bytes', () => {
  it('lets the next be written while the device takes one, and no more', async () => {
    const { finish, waiting } = device();
    const lots = new Lots({ finish }, 10);
    await lots.wrote(6);
    expect(waiting).toHaveLength(0);
    await lots.wrote(4);
    expect(waiting).toHaveLength(1);
    const second = lots.wrote(25);
    expect(waiting).toHaveLength(2);
    expect(await isSettled(second)).toBe(false);
    waiting[0]!.take();
    await second;
    const end = lots.end();
    expect(await isSettled(end)).toBe(false);
    waiting[1]!.take();
    // What was written since the last lot is waited for, too.
    expect(await isSettled(end)).toBe(false);
    waiting[2]!.take();
    await end;
  });

  it.each([0, 1, 2])('tells of a failure of lot %i once it is waited for', async (failing) => {
    const { finish, waiting } = device();
    const lots = new Lots({ finish }, 1);
    const write = async () => {
      await lots.wrote(1);
      await lots.wrote(1);
      await lots.end();
    };
    const written = write();
    for (let i = 0; i <= failing; i++) {
      await new Promise(setImmediate);
      if (i === failing) waiting[i]!.fail();
      else waiting[i]!.take();
    }
    await expect(written).rejects.toThrow('lost');
  });
});
