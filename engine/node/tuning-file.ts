import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { Backend, KernelChoices, TuneOptions } from '../backend.ts';
import type { Llama } from '../llama.ts';
import { WebGpuBackend } from '../webgpu/backend.ts';
import { kernelSources } from '../webgpu/variants.ts';

/** What a measurement holds for: on another adapter or driver, or with other kernels, it says nothing. */
export interface TuningKey {
  readonly adapter: string;
  readonly driver: string;
  /** Of every kernel's source. */
  readonly kernels: string;
}

const fileSchema = z.strictObject({
  version: z.literal(1),
  adapter: z.string(),
  driver: z.string(),
  kernels: z.string(),
  choices: z.record(z.string(), z.string()),
});

export function tuningKey({ description }: WebGpuBackend): TuningKey {
  return {
    adapter: [description.hardware, ...description.features].join(' '),
    driver: description.name,
    kernels: createHash('sha256').update(kernelSources()).digest('hex'),
  };
}

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

/**
 * The choices that were measured for this adapter, driver and kernels; undefined where there are none.
 * @param warn is told of a file that is there but of no use, in one sentence
 */
export async function readTuning(key: TuningKey, warn: (message: string) => void): Promise<KernelChoices | undefined> {
  const path = tuningPath(key);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch {
    return undefined;
  }
  let parsed: z.infer<typeof fileSchema>;
  try {
    parsed = fileSchema.parse(JSON.parse(text));
  } catch {
    warn(`The kernel choices in ${path} cannot be read and are ignored; tuning again replaces them.`);
    return undefined;
  }
  const changed = (['adapter', 'driver', 'kernels'] as const).filter((part) => parsed[part] !== key[part]);
  if (changed.length > 0) {
    warn(
      `The kernel choices in ${path} are of another ${changed.join(' and ')} and are ignored; tuning again replaces them.`,
    );
    return undefined;
  }
  return new Map(Object.entries(parsed.choices));
}

/**
 * Measures what is not known of a model's shapes yet and keeps it. Does nothing where kernels cannot be chosen among.
 * @param warn is told where the choices cannot be kept, in one sentence: they serve this model all the same
 */
export async function tuneOnce(
  llama: Llama,
  backend: Backend,
  options: TuneOptions = {},
  warn: (message: string) => void = (message) => process.emitWarning(message),
): Promise<void> {
  const choices = await llama.tune(options);
  if (!choices || !(backend instanceof WebGpuBackend)) return;
  const key = tuningKey(backend);
  try {
    await writeTuning(key, choices);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    warn(
      `The kernel choices cannot be kept in ${tuningPath(key)} (${code}), so they serve this load alone; ` +
        'LLAMA_GUARD_CACHE names another folder.',
    );
  }
}

/** Keeps choices for the next load; they replace what was kept for the same adapter. */
export async function writeTuning(key: TuningKey, choices: KernelChoices): Promise<string> {
  const path = tuningPath(key);
  await mkdir(dirname(path), { recursive: true });
  // Under another name first: a load in another process never sees half a file.
  const unfinished = `${path}.${process.pid}`;
  await writeFile(
    unfinished,
    JSON.stringify({ version: 1, ...key, choices: Object.fromEntries(choices) }, undefined, 1),
  );
  await rename(unfinished, path);
  return path;
}
