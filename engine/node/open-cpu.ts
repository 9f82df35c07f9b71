import { cpus } from 'node:os';
import type { OpenedCpu } from '../device-choice.ts';
import { openProcessor } from '../processor.ts';
import type { OpenWasmOptions } from '../wasm/open.ts';
import { availableMemory, availableThreads } from './limits.ts';
import { startWorker } from './start-worker.ts';

export type OpenCpuOptions = Omit<OpenWasmOptions, 'startThread'>;

/** Opens the processor; see `openProcessor`. @throws DeviceError `device-unavailable`; ContractError `no-variant` */
export const openCpu = (options: OpenCpuOptions = {}): OpenedCpu =>
  openProcessor({
    ...options,
    memoryBudget: options.memoryBudget ?? availableMemory(),
    threads: options.threads ?? availableThreads(),
    hardware: cpus()[0]?.model ?? '',
    startThread: startWorker,
  });
