import { z } from 'zod';
import type { Backend, KernelChoices, TuneOptions } from './backend.ts';
import type { Llama } from './llama.ts';
import { sha256 } from './sha256.ts';
import { WebGpuBackend } from './webgpu/backend.ts';
import { kernelSources } from './webgpu/variants.ts';

/** What a measurement holds for: on another adapter or driver, or with other kernels, it says nothing. */
export interface TuningKey {
  readonly adapter: string;
  readonly driver: string;
  /** Of every kernel's source. */
  readonly kernels: string;
}

/** Where a platform keeps kernel choices from one load to the next: a text for each adapter. */
export interface TuningStore {
  /** What messages call the place. */
  locate(key: TuningKey): string;
  /** Undefined where nothing is kept. */
  read(key: TuningKey): Promise<string | undefined>;
  /** Replaces what was kept for the same adapter. */
  write(key: TuningKey, text: string): Promise<void>;
  /** A sentence on what to do where nothing can be kept there. */
  readonly advice?: string;
  /** Takes a sentence about what was kept but is of no use, or cannot be kept: the model serves all the same. */
  warn(message: string): void;
}

const choicesSchema = z.strictObject({
  version: z.literal(1),
  adapter: z.string(),
  driver: z.string(),
  kernels: z.string(),
  choices: z.record(z.string(), z.string()),
});

export async function tuningKey({ description }: WebGpuBackend): Promise<TuningKey> {
  return {
    adapter: [description.hardware, ...description.features].join(' '),
    driver: description.name,
    kernels: await sha256(kernelSources()),
  };
}

/** The choices that were measured for this adapter, driver and kernels; undefined where there are none. */
export async function keptTuning(key: TuningKey, store: TuningStore): Promise<KernelChoices | undefined> {
  const text = await store.read(key);
  if (text === undefined) return undefined;
  let parsed: z.infer<typeof choicesSchema>;
  try {
    parsed = choicesSchema.parse(JSON.parse(text));
  } catch {
    store.warn(
      `The kernel choices in ${store.locate(key)} cannot be read and are ignored; tuning again replaces them.`,
    );
    return undefined;
  }
  const changed = (['adapter', 'driver', 'kernels'] as const).filter((part) => parsed[part] !== key[part]);
  if (changed.length > 0) {
    const others = changed.join(' and ');
    store.warn(
      `The kernel choices in ${store.locate(key)} are of another ${others} and are ignored; tuning again replaces them.`,
    );
    return undefined;
  }
  return new Map(Object.entries(parsed.choices));
}

/** Keeps choices for the next load. @throws why they cannot be kept */
export const keepTuning = (key: TuningKey, choices: KernelChoices, store: TuningStore): Promise<void> =>
  store.write(key, JSON.stringify({ version: 1, ...key, choices: Object.fromEntries(choices) }, undefined, 1));

/** Lets a backend use the choices that were kept for it. */
export async function useKeptTuning(backend: WebGpuBackend, store: TuningStore): Promise<void> {
  const choices = await keptTuning(await tuningKey(backend), store);
  for (const [shapes, variant] of choices ?? []) backend.setChoice(shapes, variant);
}

/** Measures what is not known of a model's shapes yet and keeps it. Does nothing where kernels cannot be chosen among. */
export async function tune(
  llama: Llama,
  backend: Backend,
  store: TuningStore,
  options: TuneOptions = {},
): Promise<void> {
  const choices = await llama.tune(options);
  if (!choices || !(backend instanceof WebGpuBackend)) return;
  const key = await tuningKey(backend);
  try {
    await keepTuning(key, choices, store);
  } catch (error) {
    const { code, message } = error as Error & { code?: string };
    const { advice } = store;
    store.warn(
      `The kernel choices cannot be kept in ${store.locate(key)} (${code ?? message}), so they serve this load alone.` +
        (advice === undefined ? '' : ` ${advice}`),
    );
  }
}
