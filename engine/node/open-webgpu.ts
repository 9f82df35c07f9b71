import type { DeviceDescription } from '../backend.ts';
import { DeviceError } from '../errors.ts';
import { useKeptTuning } from '../tuning.ts';
import type { WebGpuBackend } from '../webgpu/backend.ts';
import { describeAdapter, type OpenWebGpuOptions, openWebGpuDevice } from '../webgpu/open.ts';
import { availableMemory } from './limits.ts';
import { tuningFiles } from './tuning-file.ts';

/** Dawn hides f16 and subgroup matrices on NVIDIA unless asked. */
export const dawnToggles = ['enable-dawn-features=vulkan_enable_f16_on_nvidia,allow_unsafe_apis'];

/** One sentence on how a machine without WebGPU gets it. */
export const howToGetWebGpu =
  'For WebGPU install a Vulkan driver: your GPU vendor\'s, or the software one of Mesa ("apt-get install mesa-vulkan-drivers", ' +
  'on Debian 12 from bookworm-backports: its own is too old).';

/** Dawn's `navigator.gpu`: while it is alive its devices answer, so a backend keeps it until disposed. */
export async function createGpu(): Promise<GPU> {
  // Mesa warns on standard error at every start where this is not set.
  process.env.XDG_RUNTIME_DIR ??= '/tmp';
  try {
    const { create } = await import('webgpu');
    return create(dawnToggles);
  } catch (cause) {
    throw new DeviceError('device-unavailable', `WebGPU cannot be loaded on this platform. ${howToGetWebGpu}`, {
      cause,
    });
  }
}

/** The adapter that `openWebGpu` would open, or undefined where there is none. */
export async function findWebGpuAdapter(): Promise<DeviceDescription | undefined> {
  try {
    const adapter = await (await createGpu()).requestAdapter({ powerPreference: 'high-performance' });
    return adapter ? describeAdapter(adapter) : undefined;
  } catch {
    return undefined;
  }
}

export interface OpenNodeWebGpuOptions extends OpenWebGpuOptions {
  /** Whether the kernel choices that were kept for this adapter are used; by default they are. */
  readonly tuning?: 'use' | 'ignore';
}

/**
 * Opens the preferred WebGPU adapter of this machine, with the kernels that were measured to be best on it.
 * @throws DeviceError `device-unavailable`; ContractError `no-variant`
 */
export async function openWebGpu({ tuning = 'use', ...options }: OpenNodeWebGpuOptions = {}): Promise<WebGpuBackend> {
  const gpu = await createGpu();
  const backend = await openWebGpuDevice(gpu, {
    hostMemory: availableMemory(),
    howToGetAdapter: howToGetWebGpu,
    ...options,
  });
  if (tuning === 'use') await useKeptTuning(backend, tuningFiles());
  return backend;
}
