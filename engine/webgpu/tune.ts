import type { Backend, KernelChoices, TuneOptions } from '../backend.ts';

/** A backend whose kernels can be chosen. */
export interface Tunable extends Pick<Backend, 'record' | 'replay' | 'finish'> {
  readonly choices: KernelChoices;
  /**
   * Uses a variant for a class of shapes from now on, but for what is recorded already; without one the default order
   * decides again.
   */
  setChoice(shapes: string, variant: string | undefined): void;
  /**
   * The classes of shapes in `task` that more than one variant serves, and those variants, the chosen one first. Leaves
   * out operations whose variant was asked for by name, and classes with less than `share` of all operations: a choice
   * there would be decided by noise.
   */
  alternatives(task: () => void, share: number): ReadonlyMap<string, readonly string[]>;
}

/** A variant has to be faster by this share to take the place of another: less is noise. */
const margin = 0.03;
/** The share of a pass's operations that a class of shapes has to have to be measured. */
const leastShare = 0.01;
/** Milliseconds of repeated passes that a measurement takes at least, and how often it repeats at least. */
const leastMs = 30;
const leastRuns = 3;
/** A variant that takes this many times the best is given up after one run. */
const hopeless = 1.3;

/**
 * Measures which variants make a pass fastest: in place, as whole passes, since a kernel timed alone finds its operands
 * in caches where the pass would have replaced them. One class of shapes after another is given each of its variants,
 * and keeps the best for the measurements that follow; classes that have a choice already are left alone.
 */
export async function tune(
  backend: Tunable,
  pass: () => void,
  { onProgress, signal }: TuneOptions = {},
): Promise<KernelChoices> {
  const known = new Set(backend.choices.keys());
  const alternatives = [...backend.alternatives(pass, leastShare)].filter(([shapes]) => !known.has(shapes));
  let done = 0;
  for (const [shapes, names] of alternatives) {
    let best: { name: string; ms: number } | undefined;
    try {
      // The default comes first, and others have to beat it.
      for (const name of names) {
        signal?.throwIfAborted();
        backend.setChoice(shapes, name);
        const ms = await time(backend, pass, best ? best.ms * hopeless : Number.POSITIVE_INFINITY);
        if (!best || ms < best.ms * (1 - margin)) best = { name, ms };
      }
    } catch (error) {
      // What was not measured to the end is not known: the next time it is measured again.
      backend.setChoice(shapes, undefined);
      throw error;
    }
    const { name } = best!;
    backend.setChoice(shapes, name);
    onProgress?.({ done: ++done, total: alternatives.length, choice: `${shapes}: ${name}` });
  }
  return backend.choices;
}

/** The shortest of several runs, in milliseconds, after one that does not count, since it may compile. */
async function time(backend: Tunable, pass: () => void, limit: number): Promise<number> {
  using recording = backend.record(pass);
  const once = async () => {
    const start = performance.now();
    backend.replay(recording);
    await backend.finish();
    return performance.now() - start;
  };
  await once();
  let shortest = await once();
  let spent = shortest;
  for (let runs = 1; shortest <= limit && (runs < leastRuns || spent < leastMs); runs++) {
    const ms = await once();
    shortest = Math.min(shortest, ms);
    spent += ms;
  }
  return shortest;
}
