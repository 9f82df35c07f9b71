import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { hasSimd } from '../../kernels/wasm/features.ts';
import type { Backend } from '../backend.ts';
import { CpuBackend } from '../cpu/backend.ts';
import { type OpenWasmOptions, openWasm } from '../wasm/open.ts';
import { startWorker } from './start-worker.ts';

export type OpenCpuOptions = Omit<OpenWasmOptions, 'startThread'>;

/** Cores that this process may use: those it may run on, and of those no more than its control group grants it time for. */
export function availableThreads(
  readQuota: () => string = () => readFileSync('/sys/fs/cgroup/cpu.max', 'utf8'),
): number {
  const cores = availableParallelism();
  try {
    // cgroup v2: microseconds of processor time in a period, or 'max', and the period.
    const [quota, period] = readQuota().trim().split(' ').map(Number) as [number, number];
    return quota > 0 && period > 0 ? Math.max(1, Math.min(cores, Math.round(quota / period))) : cores;
  } catch {
    return cores;
  }
}

/**
 * Opens the processor: WebAssembly SIMD on threads, or plain TypeScript where the engine has no SIMD.
 * @throws DeviceError `device-unavailable` where no memory can be had or `threads` is no number of threads
 */
export function openCpu(options: OpenCpuOptions = {}): { readonly backend: Backend; readonly note?: string } {
  const memoryBudget = options.memoryBudget ?? Math.floor(totalmem() * 0.8);
  const threads = options.threads ?? availableThreads();
  const hardware = cpus()[0]?.model ?? '';
  if (!hasSimd()) {
    const note = 'this engine has no WebAssembly SIMD, so plain TypeScript is used, which is slow';
    return { backend: new CpuBackend({ memoryBudget }), note };
  }
  return { backend: openWasm({ ...options, memoryBudget, threads, hardware, startThread: startWorker }) };
}
