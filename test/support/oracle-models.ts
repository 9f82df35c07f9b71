import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeAdapter, makeModel } from '../../bench/make-model/index.ts';
import { parseLoraOptions } from '../../bench/make-model/lora.ts';
import { floatsOf, readFileWithPeer } from './safetensors-peer.ts';

/** What float64 makes of some token ids. */
export interface OraclePrompt {
  readonly ids: readonly number[];
  /** Of the last position, for the whole vocabulary. */
  readonly logits: readonly number[];
  /** The eight tokens that follow greedily; each wins clearly, and none ends the completion. */
  readonly greedy: readonly number[];
}

interface Computed {
  /** Hashes of the folder's files by name, in hexadecimal. */
  readonly sha256: Readonly<Record<string, string>>;
  readonly prompts: readonly OraclePrompt[];
  /** The residual stream of the last prompt's last position, after the embedding and after each layer. */
  readonly states: readonly (readonly number[])[];
  readonly finalNorm: readonly number[];
}

/** test/oracles/make_architectures.py tells how it came to be. */
export interface Oracle {
  readonly by: { readonly torch: string; readonly python: string; readonly date: string };
  readonly confirmedBy: { readonly transformers: string; readonly peft: string; readonly largestDifference: number };
  readonly seed: number;
  readonly models: Readonly<Record<string, Computed>>;
  readonly adapters: Readonly<Record<string, Computed & { readonly base: string; readonly lora: string }>>;
  /** Exact tables of RoPE with published parameters, a row a position. */
  readonly rope: Readonly<
    Record<
      string,
      {
        readonly positions: readonly number[];
        /** Radians a position, (headDim / 2). */
        readonly inverseFrequencies: readonly number[];
        readonly cos: readonly (readonly number[])[];
        readonly sin: readonly (readonly number[])[];
      }
    >
  >;
}

export const oracle: Oracle = JSON.parse(
  readFileSync(new URL('../oracles/architectures.json', import.meta.url), 'utf8'),
);

/** Makes the folder that the oracle's model `name` was computed from. @throws Error where it comes out otherwise */
export async function makeOracleModel(name: string, folder: string): Promise<void> {
  await makeModel(folder, { like: name, seed: oracle.seed });
  await checkHashes(folder, oracle.models[name]!.sha256);
}

/** Likewise an adapter's. */
export async function makeOracleAdapter(name: string, folder: string): Promise<void> {
  const { base, lora, sha256 } = oracle.adapters[name]!;
  await makeAdapter(folder, { like: base, seed: oracle.seed, lora: parseLoraOptions(lora) });
  await checkHashes(folder, sha256);
}

/** The weights of a folder with one file, by a reader that shares no code with the engine's. */
export async function readWeights(folder: string, file = 'model.safetensors'): Promise<Map<string, Float64Array>> {
  const tensors = await readFileWithPeer(join(folder, file));
  return new Map([...tensors].map(([name, tensor]) => [name, floatsOf(tensor)]));
}

async function checkHashes(folder: string, expected: Readonly<Record<string, string>>): Promise<void> {
  for (const [file, hash] of Object.entries(expected)) {
    const came = createHash('sha256')
      .update(await readFile(join(folder, file)))
      .digest('hex');
    if (came === hash) continue;
    throw new Error(
      `${join(folder, file)} must have the hash ${hash} of test/oracles/architectures.json, but has ${came}. ` +
        'If make-model was meant to change, run test/oracles/make_architectures.py.',
    );
  }
}
