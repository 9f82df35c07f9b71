import { cpus } from 'node:os';
import { hasSimd } from '../../kernels/wasm/features.ts';
import type { Backend } from '../backend.ts';
import { CpuBackend } from '../cpu/backend.ts';
import { type OpenWasmOptions, openWasm } from '../wasm/open.ts';
import { availableMemory, availableThreads } from './limits.ts';
import { startWorker } from './start-worker.ts';

export type OpenCpuOptions = Omit<OpenWasmOptions, 'startThread'>;

/**
 * Opens the processor: WebAssembly SIMD on threads, or plain TypeScript where the engine has no SIMD.
 * @throws DeviceError `device-unavailable` where no memory can be had or `threads` is no number of threads
 */
export function openCpu(options: OpenCpuOptions = {}): { readonly backend: Backend; readonly note?: string } {
  const memoryBudget = options.memoryBudget ?? availableMemory();
  const threads = options.threads ?? availableThreads();
  const hardware = cpus()[0]?.model ?? '';
  if (!hasSimd()) {
    const note = 'this engine has no WebAssembly SIMD, so plain TypeScript is used, which is slow';
    return { backend: new CpuBackend({ memoryBudget }), note };
  }
  return { backend: openWasm({ ...options, memoryBudget, threads, hardware, startThread: startWorker }) };
}
