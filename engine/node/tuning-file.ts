import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Backend, KernelChoices, TuneOptions } from '../backend.ts';
import type { Llama } from '../llama.ts';
import { keepTuning, keptTuning, type TuningKey, type TuningStore, tune } from '../tuning.ts';

/** Where the choices for an adapter are kept: in `LLAMA_GUARD_CACHE`, else in the user's own cache folder. */
export function tuningPath({ adapter }: TuningKey, home: () => string = homedir): string {
  const caches = process.env.XDG_CACHE_HOME || cachesOf(home);
  const folder = process.env.LLAMA_GUARD_CACHE || join(caches, 'llama-guard-webgpu');
  const name = createHash('sha256').update(adapter).digest('hex').slice(0, 16);
  return join(folder, `tuning-${name}.json`);
}

/** A container may run as a user of whom the system knows nothing, no home either. */
function cachesOf(home: () => string): string {
  try {
    return join(home(), '.cache');
  } catch {
    return tmpdir();
  }
}

/** Takes a sentence about choices that are of no use or cannot be kept. */
type Warn = (message: string) => void;

/** Keeps kernel choices in a file for each adapter. */
export const tuningFiles = (warn: Warn = (message) => process.emitWarning(message)): TuningStore => ({
  locate: tuningPath,
  read: (key) => readFile(tuningPath(key), 'utf8').catch(() => undefined),
  write: async (key, text) => {
    const path = tuningPath(key);
    await mkdir(dirname(path), { recursive: true });
    // Under another name first: a load in another process never sees half a file.
    const unfinished = `${path}.${process.pid}`;
    await writeFile(unfinished, text);
    await rename(unfinished, path);
  },
  advice: 'LLAMA_GUARD_CACHE names another folder.',
  warn,
});

/** The choices that were measured for this adapter, driver and kernels; undefined where there are none. */
export const readTuning = (key: TuningKey, warn: Warn): Promise<KernelChoices | undefined> =>
  keptTuning(key, tuningFiles(warn));

/** Keeps choices for the next load; they replace what was kept for the same adapter. @returns the file */
export async function writeTuning(key: TuningKey, choices: KernelChoices): Promise<string> {
  await keepTuning(key, choices, tuningFiles());
  return tuningPath(key);
}

/** Measures what is not known of a model's shapes yet and keeps it. Does nothing where kernels cannot be chosen among. */
export const tuneOnce = (llama: Llama, backend: Backend, options: TuneOptions = {}, warn?: Warn): Promise<void> =>
  tune(llama, backend, tuningFiles(warn), options);
