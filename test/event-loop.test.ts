import { afterEach, describe, expect, it, vi } from 'vitest';
import { watchEventLoop } from '../bench/event-loop.ts';
import { messageOf } from '../bench/guard-scenarios.ts';
import { startWorker } from '../engine/node/start-worker.ts';
import { Pace } from '../engine/pace.ts';
import { openWasm } from '../engine/wasm/open.ts';
import { llamaGuard1 } from '../guard/formats/index.ts';
import { makeHarmless } from '../guard/hostile/index.ts';
import { Guard } from '../guard/index.ts';
import { instructionIds, promptsWithin } from '../guard/prompts.ts';
import { matmul } from '../kernels/matmul/index.ts';
import type { PromptPart } from '../tokenizer/index.ts';

afterEach(() => {
  vi.unstubAllGlobals();
});

/** The share of a task's time for which the event loop stood still in one piece, in the best of some runs. */
async function longestStandstill(task: () => Promise<unknown>): Promise<number> {
  let least = 1;
  for (let i = 0; i < 8; i++) {
    const start = performance.now();
    const stop = watchEventLoop();
    await task();
    least = Math.min(least, stop() / (performance.now() - start));
  }
  return least;
}

/** What runs in one piece takes nearly all of it; of small pieces, a busy machine makes larger ones. */
const mostOfIt = 1 / 2;

/** Keeps the event loop for so many milliseconds. */
function work(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end; );
}

/** Counts how often the event loop goes round until the returned function is called. */
function countTurns(): () => number {
  let turns = 0;
  let going = true;
  const count = () => {
    turns++;
    if (going) setImmediate(count);
  };
  setImmediate(count);
  return () => {
    going = false;
    return turns;
  };
}

describe('the event loop stays free', () => {
  it.each(['threads', 'the calling thread'])('in checks of which nothing is cached, on %s', async (where) => {
    if (where !== 'threads') vi.stubGlobal('crossOriginIsolated', false);
    await using guard = await Guard.load(undefined, { device: 'cpu', threads: 2 });
    const { llama, tokenizer } = guard;
    const ids = instructionIds(tokenizer, guard.instruction(messageOf(guard, 30)));
    const uncached = async () => {
      using context = llama.createContext();
      await llama.logProbabilities([{ context, ids, wanted: [ids.length - 1] }], [0, 1]);
    };
    await uncached();
    expect(await longestStandstill(uncached)).toBeLessThan(mostOfIt);
    const counted = countTurns();
    await guard.check(messageOf(guard, 30));
    expect(counted()).toBeGreaterThan(1);
  });

  it.each([
    ['a thread', { startThread: startWorker }],
    ['the calling thread', {}],
  ])('in one large product, on %s', async (_, options) => {
    await using device = openWasm(options);
    const x = device.allocate('x', 'f32', [512, 1024]);
    const weight = device.allocate('weight', 'f32', [2048, 1024]);
    const out = device.allocate('out', 'f32', [512, 2048]);
    const product = async () => {
      device.run(matmul, { x, weight, out });
      await device.finish();
    };
    await product();
    expect(await longestStandstill(product)).toBeLessThan(mostOfIt);
  });

  it('while a long conversation is cut into windows', async () => {
    const pieceMs = 4;
    let pieces = 0;
    const count = (text: string) => {
      work(pieceMs);
      pieces++;
      return text.length;
    };
    const slow = {
      encodePrompt: (parts: readonly PromptPart[]) =>
        new Array<number>(count(parts.map(({ text }) => text).join(''))).fill(2),
    };
    const { turns } = makeHarmless([{ speaker: 'User', text: 'All is well. '.repeat(500), messageIndex: 0 }]);
    const pace = new Pace();
    const counted = countTurns();
    const frame = llamaGuard1.frame(llamaGuard1.policy, 'user');
    const prompts = await promptsWithin({ tokens: 4000, reserved: 0 }, slow, frame, turns, (piece) => pace.do(piece));
    expect(prompts.length).toBeGreaterThan(2);
    expect(counted()).toBeGreaterThanOrEqual(pieces - 1);
  });

  it('while many do what takes long, first come first served', async () => {
    const pace = new Pace();
    const counted = countTurns();
    const done: number[] = [];
    await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        pace.do(() => {
          work(4);
          done.push(i);
        }),
      ),
    );
    expect(done).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(counted()).toBeGreaterThanOrEqual(9);
  });
});
