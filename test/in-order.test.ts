import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { mapInOrder } from '../guard/in-order.ts';

const later = (turns: number) => new Promise<void>((resolve) => setTimeout(resolve, turns));

/** A source that counts what it gave and whether it was told to stop. */
function watched(count: number, pace = 0) {
  const seen = { given: 0, stopped: false };
  async function* items() {
    try {
      for (; seen.given < count; ) {
        await later(pace);
        yield seen.given++;
      }
    } finally {
      seen.stopped = true;
    }
  }
  return { seen, items: items() };
}

async function collect<T>(results: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const result of results) all.push(result);
  return all;
}

describe('tasks in order', () => {
  it('yield in order, at most so many at once, whatever each takes', async () => {
    const delays = fc.array(fc.nat(4), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(delays, fc.integer({ min: 1, max: 5 }), fc.boolean(), async (list, width, inTurns) => {
        let running = 0;
        const task = async (delay: number) => {
          expect(++running).toBeLessThanOrEqual(width);
          await later(delay);
          running--;
          return delay;
        };
        async function* slowly() {
          for (const item of list) {
            await later(1);
            yield item;
          }
        }
        expect(await collect(mapInOrder(inTurns ? slowly() : list, width, task))).toEqual(list);
      }),
      { numRuns: 30 },
    );
  });

  it('yield what is done while the source takes its time', async () => {
    const { seen, items } = watched(2, 20);
    const results = mapInOrder(items, 4, async (item) => item);
    expect((await results.next()).value).toBe(0);
    expect(seen.given).toBe(1);
    await results.return();
  });

  it('are not begun further ahead than the width, and are given up when the consumer leaves', async () => {
    const { seen, items } = watched(100);
    const ended: number[] = [];
    const task = async (item: number, signal: AbortSignal) => {
      await later(item === 0 ? 10 : 30);
      ended.push(signal.aborted ? -1 : item);
    };
    for await (const _ of mapInOrder(items, 4, task)) break;
    expect(seen.given).toBeLessThanOrEqual(5);
    expect(seen.stopped).toBe(true);
    expect(ended.length).toBe(seen.given);
    expect(ended.slice(1).every((item) => item === -1)).toBe(true);
  });

  it('end with the error of a task or of the source, after the results before it', async () => {
    const failing = mapInOrder([1, 2, 3], 3, async (item) => {
      if (item === 2) throw new Error('two');
      return item;
    });
    expect((await failing.next()).value).toBe(1);
    await expect(failing.next()).rejects.toThrow('two');
    async function* broken() {
      yield 1;
      throw new Error('dry');
    }
    const dry = mapInOrder(broken(), 3, async (item) => item);
    expect((await dry.next()).value).toBe(1);
    await expect(dry.next()).rejects.toThrow('dry');
    expect((await dry.next()).done).toBe(true);
  });
});
