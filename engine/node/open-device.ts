import type { Backend } from '../backend.ts';
import { chooseDevice, type DeviceChoice, type DeviceDecision, type OpenDeviceOptions } from '../device-choice.ts';
import { openCpu } from './open-cpu.ts';
import { findWebGpuAdapter, howToGetWebGpu, openWebGpu } from './open-webgpu.ts';

/** Opens a device of this machine; see `chooseDevice`. @throws DeviceError `device-unavailable`; ContractError `no-variant` */
export function openDevice(
  choice: DeviceChoice,
  options: OpenDeviceOptions = {},
): Promise<{ readonly backend: Backend; readonly decision: DeviceDecision }> {
  const { memoryBudget, memoryNeeded, threads, prefer } = options;
  return chooseDevice(choice, {
    howToGetWebGpu,
    findWebGpuAdapter,
    openWebGpu: () => openWebGpu(options),
    openCpu: () => openCpu({ memoryBudget, memoryNeeded, threads, prefer }),
  });
}
