import type { Backend } from '../../engine/index.ts';
import { openCpu } from '../../engine/node/open-cpu.ts';
import { openWebGpu } from '../../engine/node/open-webgpu.ts';
import { openWebGpuDevice } from '../../engine/webgpu/open.ts';

export type TestDevice = 'webgpu' | 'webgpu without features' | 'cpu';

/** The devices that this run is about: `npm test` sees to it that WebGPU is there unless it was left out by name. */
export const testDevices: readonly TestDevice[] =
  process.env.GUARD_TEST_DEVICES === 'cpu' ? ['cpu'] : ['webgpu', 'webgpu without features', 'cpu'];

export interface DeviceOptions {
  readonly memoryBudget?: number;
  readonly largestBinding?: number;
  readonly prefer?: Readonly<Record<string, string>>;
  /** Opens WebGPU devices of this one, to look at what is asked of them. */
  readonly gpu?: GPU;
}

export async function openTestDevice(device: TestDevice, { gpu, ...options }: DeviceOptions = {}): Promise<Backend> {
  if (device === 'cpu') return openCpu({ memoryBudget: options.memoryBudget, threads: 2 }).backend;
  const features = device === 'webgpu' ? 'all' : 'none';
  return gpu ? openWebGpuDevice(gpu, { ...options, features }) : openWebGpu({ ...options, features });
}
