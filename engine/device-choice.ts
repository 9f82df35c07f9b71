import type { Backend, DeviceDescription } from './backend.ts';
import { DeviceError } from './errors.ts';
import type { OpenWebGpuOptions } from './webgpu/open.ts';

export const deviceChoices = ['auto', 'webgpu', 'cpu'] as const;
export type DeviceChoice = (typeof deviceChoices)[number];

/** Which device a choice came down to on this machine, and why. */
export interface DeviceDecision {
  readonly device: DeviceDescription;
  readonly reason: string;
}

export interface OpenDeviceOptions extends Pick<OpenWebGpuOptions, 'prefer'> {
  /** Whether the kernel choices that were kept for this adapter are used; by default they are. */
  readonly tuning?: 'use' | 'ignore';
  /** Bytes that the model may take in all. */
  readonly memoryBudget?: number;
  /** Bytes that it is going to take, where that is known: the processor is opened so that it holds them if it can. */
  readonly memoryNeeded?: number;
  /** Threads of the processor to compute on; by default as many as the cores that may be used. */
  readonly threads?: number;
}

/** A device that was opened, and what is to be told of how. */
export interface OpenedCpu {
  readonly backend: Backend;
  readonly note?: string;
}

/** What a platform has of devices. */
export interface DevicePlatform {
  /** One sentence on how it gets WebGPU. */
  readonly howToGetWebGpu: string;
  /** The adapter that `openWebGpu` would open, or undefined where there is none. */
  findWebGpuAdapter(): Promise<DeviceDescription | undefined>;
  /** @throws DeviceError `device-unavailable` where there is no adapter */
  openWebGpu(): Promise<Backend>;
  openCpu(): OpenedCpu;
}

/**
 * Opens a device: with `auto`, a GPU where there is one, else the processor, which is faster at being itself than at
 * playing a GPU.
 * @throws DeviceError `device-unavailable` where `webgpu` is asked for and there is none, or what is no device; ContractError
 *   `no-variant`
 */
export async function chooseDevice(
  choice: DeviceChoice,
  platform: DevicePlatform,
): Promise<{ readonly backend: Backend; readonly decision: DeviceDecision }> {
  const decide = (backend: Backend, reason: string) => ({ backend, decision: { device: backend.description, reason } });
  const cpu = (reason: string) => {
    const { backend, note } = platform.openCpu();
    return decide(backend, note ? `${reason}; ${note}` : reason);
  };
  if (choice === 'cpu') return cpu('asked for');
  if (choice === 'webgpu') return decide(await platform.openWebGpu(), 'asked for');
  if (choice !== 'auto') {
    throw new DeviceError('device-unavailable', `There is no device '${choice}': give ${deviceChoices.join(', ')}.`);
  }
  const adapter = await platform.findWebGpuAdapter();
  if (!adapter) return cpu(`there is no WebGPU adapter. ${platform.howToGetWebGpu}`);
  if (adapter.software) {
    return cpu(
      `the only WebGPU adapter is ${adapter.name}, a processor playing a GPU, and slower than the processor itself`,
    );
  }
  return decide(await platform.openWebGpu(), 'WebGPU found a GPU');
}
