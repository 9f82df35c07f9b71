import type { Backend, DeviceDescription } from '../backend.ts';
import {
  chooseDevice,
  type DeviceChoice,
  type DeviceDecision,
  type OpenDeviceOptions,
  type OpenedCpu,
} from '../device-choice.ts';
import { DeviceError } from '../errors.ts';
import { openProcessor } from '../processor.ts';
import { useKeptTuning } from '../tuning.ts';
import type { WebGpuBackend } from '../webgpu/backend.ts';
import { describeAdapter, openWebGpuDevice } from '../webgpu/open.ts';
import { startWorker } from './start-worker.ts';
import { tuningCache } from './tuning-cache.ts';

/** One sentence on how a page gets WebGPU. */
const howToGetWebGpu = 'For WebGPU see whether the browser has it, and hardware acceleration on.';

/** Undefined in browsers without WebGPU, whatever its types say. */
const webGpu = (): GPU | undefined => globalThis.navigator?.gpu;

/** The adapter that `openWebGpu` would open, or undefined where there is none. */
export async function findWebGpuAdapter(): Promise<DeviceDescription | undefined> {
  const adapter = await webGpu()?.requestAdapter({ powerPreference: 'high-performance' });
  return adapter ? describeAdapter(adapter) : undefined;
}

/**
 * Opens the adapter that the browser prefers, with the kernels that were measured to be best on it.
 * @throws DeviceError `device-unavailable`; ContractError `no-variant`
 */
export async function openWebGpu(options: OpenDeviceOptions = {}): Promise<WebGpuBackend> {
  const gpu = webGpu();
  if (!gpu) throw new DeviceError('device-unavailable', `This page has no WebGPU. ${howToGetWebGpu}`);
  const { tuning = 'use', ...rest } = options;
  const backend = await openWebGpuDevice(gpu, { howToGetAdapter: howToGetWebGpu, ...rest });
  if (tuning === 'use') await useKeptTuning(backend, tuningCache());
  return backend;
}

/**
 * Opens the processor: on threads where the page is isolated from other origins and so may share memory with them, else
 * in the calling thread, whose event loop stays free.
 * @throws DeviceError `device-unavailable` where `threads` is no number of threads; ContractError `no-variant`
 */
export function openCpu({ memoryBudget, memoryNeeded, threads, prefer }: OpenDeviceOptions = {}): OpenedCpu {
  const opened = openProcessor({
    memoryBudget,
    memoryNeeded,
    threads: threads ?? navigator.hardwareConcurrency,
    prefer,
    startThread: startWorker,
  });
  if (opened.note || globalThis.crossOriginIsolated) return opened;
  const headers = 'Cross-Origin-Opener-Policy: same-origin, Cross-Origin-Embedder-Policy: require-corp';
  return { ...opened, note: `on one thread, since the page is not cross-origin isolated (${headers})` };
}

/** Opens a device of this page; see `chooseDevice`. @throws DeviceError `device-unavailable`; ContractError `no-variant` */
export const openDevice = (
  choice: DeviceChoice,
  options: OpenDeviceOptions = {},
): Promise<{ readonly backend: Backend; readonly decision: DeviceDecision }> =>
  chooseDevice(choice, {
    howToGetWebGpu,
    findWebGpuAdapter,
    openWebGpu: () => openWebGpu(options),
    openCpu: () => openCpu(options),
  });
