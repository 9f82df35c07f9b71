import { cpus } from 'node:os';
import { hasSimd } from '../../kernels/wasm/features.ts';
import type { Backend } from '../backend.ts';
import { CpuBackend } from '../cpu/backend.ts';
import { DeviceError } from '../errors.ts';
import { type OpenWasmOptions, openWasm } from '../wasm/open.ts';
import { availableMemory, availableThreads } from './limits.ts';
import { startWorker } from './start-worker.ts';

export type OpenCpuOptions = Omit<OpenWasmOptions, 'startThread'>;

/**
 * Opens the processor: WebAssembly SIMD on threads, or plain TypeScript where the engine has no SIMD or the system grants
 * it no memory.
 * @throws DeviceError `device-unavailable` where `threads` is no number of threads
 */
export function openCpu(options: OpenCpuOptions = {}): { readonly backend: Backend; readonly note?: string } {
  const memoryBudget = options.memoryBudget ?? availableMemory();
  const threads = options.threads ?? availableThreads();
  const hardware = cpus()[0]?.model ?? '';
  const plain = (reason: string) => {
    const note = `${reason}, so plain TypeScript is used, which is slow`;
    return { backend: new CpuBackend({ memoryBudget }), note };
  };
  if (!hasSimd()) return plain('this engine has no WebAssembly SIMD');
  try {
    return { backend: openWasm({ ...options, memoryBudget, threads, hardware, startThread: startWorker }) };
  } catch (error) {
    if (error instanceof DeviceError && error.code === 'out-of-memory') {
      return plain('the system refuses a WebAssembly memory');
    }
    throw error;
  }
}
