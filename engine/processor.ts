import { hasSimd } from '../kernels/wasm/features.ts';
import { CpuBackend } from './cpu/backend.ts';
import type { OpenedCpu } from './device-choice.ts';
import { DeviceError } from './errors.ts';
import { assertPreference } from './preference.ts';
import { type OpenWasmOptions, openWasm } from './wasm/open.ts';

/**
 * Opens the processor: WebAssembly SIMD on threads, or plain TypeScript where the engine has no SIMD or the system grants
 * it no memory.
 * @throws DeviceError `device-unavailable` where `threads` is no number of threads, or of more than the system starts;
 *   ContractError `no-variant`
 */
export function openProcessor(options: OpenWasmOptions): OpenedCpu {
  assertPreference(options.prefer ?? {});
  const plain = (reason: string) => {
    const { memoryBudget } = options;
    const note = `${reason}, so plain TypeScript is used, which is slow`;
    return { backend: new CpuBackend(memoryBudget === undefined ? {} : { memoryBudget }), note };
  };
  if (!hasSimd()) return plain('this engine has no WebAssembly SIMD');
  try {
    return { backend: openWasm(options) };
  } catch (error) {
    if (error instanceof DeviceError && error.code === 'out-of-memory') {
      return plain('the system refuses a WebAssembly memory');
    }
    throw error;
  }
}
