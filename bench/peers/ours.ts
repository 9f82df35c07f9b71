/** What the sessions need of this project, in one place. */
import {
  type Backend,
  type DeviceDescription,
  Llama,
  type LlamaOptions,
  type WeightDType,
} from '../../engine/index.ts';
import { type DeviceChoice, openDevice, openModelFolder } from '../../engine/node/index.ts';
import type { Preference } from '../../engine/preference.ts';
import { Guard } from '../../guard/index.ts';

/** A device's kind, marked where a processor plays it. */
export const deviceName = ({ kind, software }: DeviceDescription) => (software ? `${kind} (software)` : kind);

export const threadsOf = ({ threads }: DeviceDescription) => (threads === undefined ? {} : { threads });

/** Kernels as they are chosen where nothing was tuned, so that a result does not depend on what was run before. */
const tuning = 'ignore';

export async function openOurs(device: DeviceChoice, prefer: Preference = {}): Promise<Backend> {
  return (await openDevice(device, { tuning, prefer })).backend;
}

export async function loadModel(
  folder: string,
  device: DeviceChoice,
  options: LlamaOptions,
  prefer?: Preference,
): Promise<Llama> {
  const backend = await openOurs(device, prefer);
  await using opened = await openModelFolder(folder);
  return await Llama.load(backend, opened.config, opened.source, options);
}

/** The embedded model as a guard. */
export function loadGuard(device: DeviceChoice, dtype: WeightDType): Promise<Guard> {
  return Guard.load(undefined, { device, dtype, tuning });
}

/** Reads `ids` from an empty context and gives the probabilities of `picks` as the next token. */
export async function nextProbabilities(
  llama: Llama,
  ids: readonly number[],
  picks: readonly number[],
): Promise<Float64Array> {
  using context = llama.createContext();
  const [[row]] = (await llama.logProbabilities([{ context, ids, wanted: [ids.length - 1] }], picks)) as [
    [Float32Array],
  ];
  return Float64Array.from(row, Math.exp);
}
