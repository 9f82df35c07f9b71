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
 * Finds the operations by looking: a folder beside this file is one, but for the assembler in `wasm`, and every export of its `webgpu*`, `cpu*` and
 * `wasm*` modules that is a variant, or a family of them, counts. So a new variant is verified and timed without anyone listing it.
 */
export async function discover(): Promise<Discovered[]> {
  const root = new URL('./', import.meta.url);
  const entries = await readdir(root, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory() && entry.name !== 'wasm').map(({ name }) => name);
  return Promise.all(folders.sort().map((name) => discoverOperation(new URL(`${name}/`, root))));
}

async function discoverOperation(folder: URL): Promise<Discovered> {
  // The same folder holds .ts in a checkout, and .js beside .d.ts once built.
  const files = (await readdir(folder)).filter((name) => /(?<!\.d)\.[jt]s$/.test(name)).sort();
  const modules = await Promise.all(
    files.map(async (name) => ({
      name,
      exports: (await import(new URL(name, folder).href)) as Record<string, unknown>,
    })),
  );
  const exported = (prefix: RegExp) =>
    modules.filter(({ name }) => prefix.test(name)).flatMap(({ exports }) => Object.values(exports));
  const variants = exported(/^(webgpu|cpu|wasm)\b/);
  const [operation] = exported(/^index\b/).filter(isKind<AnyOperation>('operation'));
  const [reference] = exported(/^reference\b/);
  if (!operation || typeof reference !== 'function') {
    throw new Error(`${folder.pathname} must hold an operation in index.ts and its reference in reference.ts.`);
  }
  return {
    operation,
    reference: reference as AnyReference,
    cpu: variants.filter(isKind<AnyCpuVariant>('cpu')),
    wasm: variants.filter(isKind<AnyWasmVariant>('wasm')),
    webgpu: variants.filter(
      (value) => isKind<AnyVariant>('webgpu')(value) || isKind<AnyFamily>('webgpu-family')(value),
    ),
  };
}

const isKind =
  <T extends { readonly kind: string }>(kind: T['kind']) =>
  (value: unknown): value is T =>
    typeof value === 'object' && value !== null && 'kind' in value && value.kind === kind;
