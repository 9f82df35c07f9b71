import type { Backend, DeviceDescription } from '../backend.ts';
import { openCpu } from './open-cpu.ts';
import { findWebGpuAdapter, howToGetWebGpu, type OpenNodeWebGpuOptions, openWebGpu } from './open-webgpu.ts';

export type DeviceChoice = 'auto' | 'webgpu' | 'cpu';

/** Which device a choice came down to on this machine, and why. */
export interface DeviceDecision {
  readonly device: DeviceDescription;
  readonly reason: string;
}

export interface OpenDeviceOptions extends Pick<OpenNodeWebGpuOptions, 'prefer' | 'tuning'> {
  /** Bytes that the model may take in all. */
  readonly memoryBudget?: number;
  /** Bytes that it is going to take, where that is known: the processor is opened so that it holds them if it can. */
  readonly memoryNeeded?: number;
  /** Threads of the processor to compute on; by default as many as the cores that this process may use. */
  readonly threads?: number;
}

/**
 * Opens a device: with `auto`, a GPU where there is one, else the processor, which is faster at being itself than at
 * playing a GPU.
 * @throws DeviceError `device-unavailable` where `webgpu` is asked for and there is none.
 */
export async function openDevice(
  choice: DeviceChoice,
  options: OpenDeviceOptions = {},
): Promise<{ readonly backend: Backend; readonly decision: DeviceDecision }> {
  const decide = (backend: Backend, reason: string) => ({ backend, decision: { device: backend.description, reason } });
  const cpu = (reason: string) => {
    const { memoryBudget, memoryNeeded, threads } = options;
    const { backend, note } = openCpu({ memoryBudget, memoryNeeded, threads });
    return decide(backend, note ? `${reason}; ${note}` : reason);
  };
  if (choice === 'cpu') return cpu('asked for');
  if (choice === 'webgpu') return decide(await openWebGpu(options), 'asked for');
  const adapter = await findWebGpuAdapter();
  if (!adapter) return cpu(`there is no WebGPU adapter. ${howToGetWebGpu}`);
  if (adapter.software) {
    return cpu(
      `the only WebGPU adapter is ${adapter.name}, a processor playing a GPU, and slower than the processor itself`,
    );
  }
  return decide(await openWebGpu(options), 'WebGPU found a GPU');
}
