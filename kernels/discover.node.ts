import { readdir } from 'node:fs/promises';
import type { AnyOperation } from './contract.ts';
import type { AnyCpuVariant, AnyReference } from './cpu.ts';
import type { AnyWasmVariant } from './wasm/kernel.ts';
import type { AnyFamily, AnyVariant } from './webgpu.ts';

/** An operation and every way there is to compute it. */
export interface Discovered {
  readonly operation: AnyOperation;
  readonly reference: AnyReference;
  readonly cpu: readonly AnyCpuVariant[];
  readonly wasm: readonly AnyWasmVariant[];
  readonly webgpu: readonly (AnyVariant | AnyFamily)[];
}

/**
 * Finds the operations by looking: a folder beside this file is one, but for the assembler in `wasm`. Its variants are
 * what `cpu.ts` exports and what the lists `variants` of `wasm.ts` and `webgpu.ts` name, which the engine chooses from too.
 */
export async function discover(): Promise<Discovered[]> {
  const root = new URL('./', import.meta.url);
  const entries = await readdir(root, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory() && entry.name !== 'wasm').map(({ name }) => name);
  return Promise.all(folders.sort().map((name) => discoverOperation(new URL(`${name}/`, root))));
}

async function discoverOperation(folder: URL): Promise<Discovered> {
  const files = await readdir(folder);
  const exported = async (module: string): Promise<readonly unknown[]> => {
    // The same folder holds .ts in a checkout, and .js once built.
    const file = [`${module}.ts`, `${module}.js`].find((name) => files.includes(name));
    if (!file) return [];
    return Object.values((await import(new URL(file, folder).href)) as Record<string, unknown>).flat();
  };
  const operation = (await exported('index')).find(isKind<AnyOperation>('operation'));
  const [reference] = await exported('reference');
  if (!operation || typeof reference !== 'function') {
    throw new Error(`${folder.pathname} must hold an operation in index.ts and its reference in reference.ts.`);
  }
  return {
    operation,
    reference: reference as AnyReference,
    cpu: (await exported('cpu')).filter(isKind<AnyCpuVariant>('cpu')),
    wasm: (await exported('wasm')).filter(isKind<AnyWasmVariant>('wasm')),
    webgpu: (await exported('webgpu')).filter(
      (value) => isKind<AnyVariant>('webgpu')(value) || isKind<AnyFamily>('webgpu-family')(value),
    ),
  };
}

const isKind =
  <T extends { readonly kind: string }>(kind: T['kind']) =>
  (value: unknown): value is T =>
    typeof value === 'object' && value !== null && 'kind' in value && value.kind === kind;
