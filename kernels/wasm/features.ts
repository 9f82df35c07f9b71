import { encodeModule } from './encoding.ts';
import { FunctionBuilder } from './function.ts';
import { F32x4, I32, type Value } from './values.ts';

/** What kernels may ask for beyond plain SIMD, by the names of the proposals. */
export type WasmFeature = 'relaxed-simd';

/** Whether an engine takes a module with this expression in it: asked of the engine itself, never of its version. */
function validates(expression: Value): boolean {
  const f = new FunctionBuilder(0);
  f.store(I32.const(0), expression);
  return WebAssembly.validate(encodeModule([f.body], false));
}

const zero = F32x4.const(0);

export const hasSimd = (): boolean => typeof WebAssembly === 'object' && validates(zero.add(zero));

export function wasmFeatures(): ReadonlySet<WasmFeature> {
  return new Set<WasmFeature>(validates(zero.relaxedMadd(zero, zero)) ? ['relaxed-simd'] : []);
}
