import type { MemoryType } from './encoding.ts';
import { ModuleBuilder } from './function.ts';
import { Address } from './scalars.ts';
import type { Value } from './value.ts';
import { F32x4 } from './vectors.ts';

/** What an engine may have beyond plain SIMD, by the names of the proposals. */
export type WasmFeature = 'relaxed-simd' | 'memory64';

/** Whether an engine takes a module with this expression in it: asked of the engine itself, never of its version. */
function validates(expression: Value, bits: MemoryType['bits'] = 32): boolean {
  const module = new ModuleBuilder({ shared: false, bits });
  module.define([Address], (f, [at]) => f.store(at, expression));
  return WebAssembly.validate(module.encode());
}

const zero = F32x4.const(0);

export const hasSimd = (): boolean => typeof WebAssembly === 'object' && validates(zero.add(zero));

/** Whether memories of 64 bits can be made: some engines take modules of them, but make none, or in another way. */
function makesMemory64(): boolean {
  try {
    const [initial, maximum] = [0n, 1n] as unknown as [number, number];
    return new WebAssembly.Memory({ initial, maximum, address: 'i64' }).buffer.byteLength === 0;
  } catch {
    return false;
  }
}

export function wasmFeatures(): ReadonlySet<WasmFeature> {
  return new Set<WasmFeature>([
    ...(validates(zero.relaxedMadd(zero, zero)) ? (['relaxed-simd'] as const) : []),
    ...(validates(zero, 64) && makesMemory64() ? (['memory64'] as const) : []),
  ]);
}
