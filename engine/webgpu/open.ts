import type { DeviceTraits, Feature, SubgroupMatrixConfig } from '../../kernels/webgpu.ts';
import type { DeviceDescription } from '../backend.ts';
import { DeviceError } from '../errors.ts';
import { assertPreference } from '../preference.ts';
import { WebGpuBackend, type WebGpuBackendOptions } from './backend.ts';

/** Features that kernels can make use of; a device is asked for those it has. */
const optionalFeatures: readonly (Feature | 'timestamp-query')[] = [
  'shader-f16',
  'subgroups',
  'chromium-experimental-subgroup-matrix',
  'timestamp-query',
];

/** Limits that are raised to what the adapter offers; the defaults are too small for a language model. */
const raisedLimits = [
  'maxStorageBufferBindingSize',
  'maxBufferSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

export interface OpenWebGpuOptions extends Pick<WebGpuBackendOptions, 'memoryBudget' | 'largestBinding' | 'prefer'> {
  /** `none` opens the device as if it had no optional feature: for tests of the portable kernels. */
  readonly features?: 'all' | 'none';
  /** Bytes of this machine's memory that a software adapter may take; a GPU's own size is not told by WebGPU. */
  readonly hostMemory?: number;
  /** One sentence on how this platform gets an adapter, told where there is none. */
  readonly howToGetAdapter?: string;
}

/** What an adapter says of itself. */
export function describeAdapter(adapter: GPUAdapter): DeviceDescription {
  const { vendor, architecture, device, description, isFallbackAdapter } = adapter.info;
  const hardware = [vendor, architecture, device].filter(Boolean).join(' ');
  return {
    kind: 'webgpu',
    name: description || hardware || 'unnamed adapter',
    hardware,
    software:
      isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|software/i.test(`${device} ${description} ${architecture}`),
    features: [...adapter.features].sort(),
  };
}

/** What kernels made to measure have to know of the device; its features are those that it was opened with. */
function traitsOf(gpu: GPU, adapter: GPUAdapter, device: GPUDevice): DeviceTraits {
  const { subgroupMinSize, subgroupMaxSize } = adapter.info;
  // Not in WebGPU's types yet. Its entries have getters alone, so that a spread would copy nothing.
  const { subgroupMatrixConfigs = [] } = adapter.info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  const features = new Set<string>([...device.features, ...gpu.wgslLanguageFeatures]);
  return {
    features,
    subgroupMatrixConfigs: features.has('chromium-experimental-subgroup-matrix')
      ? Array.from(subgroupMatrixConfigs, ({ componentType, resultComponentType, M, N, K }) => ({
          componentType,
          resultComponentType,
          M,
          N,
          K,
        }))
      : [],
    minSubgroupSize: subgroupMinSize,
    maxSubgroupSize: subgroupMaxSize,
    maxInvocationsPerWorkgroup: device.limits.maxComputeInvocationsPerWorkgroup,
    maxWorkgroupStorage: device.limits.maxComputeWorkgroupStorageSize,
  };
}

/**
 * Opens the adapter that the platform prefers: pass `navigator.gpu` in a browser.
 * @throws DeviceError `device-unavailable` where there is no adapter; ContractError `no-variant`
 */
export async function openWebGpuDevice(gpu: GPU, options: OpenWebGpuOptions = {}): Promise<WebGpuBackend> {
  assertPreference(options.prefer ?? {});
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) {
    const advice =
      options.howToGetAdapter ?? 'In a page, see whether the browser has WebGPU and hardware acceleration on.';
    throw new DeviceError('device-unavailable', `WebGPU finds no adapter on this machine. ${advice}`);
  }
  const wanted = options.features === 'none' ? [] : optionalFeatures.filter((name) => adapter.features.has(name));
  const description = { ...describeAdapter(adapter), features: wanted };
  const memoryBudget = options.memoryBudget ?? (description.software ? options.hostMemory : undefined);
  const device = await adapter.requestDevice({
    // Dawn's experimental features are not among WebGPU's types.
    requiredFeatures: wanted as GPUFeatureName[],
    requiredLimits: Object.fromEntries(raisedLimits.map((name) => [name, adapter.limits[name]])),
  });
  return new WebGpuBackend(gpu, device, {
    description,
    traits: traitsOf(gpu, adapter, device),
    ...(memoryBudget === undefined ? {} : { memoryBudget }),
    ...(options.largestBinding === undefined ? {} : { largestBinding: options.largestBinding }),
    ...(options.prefer === undefined ? {} : { prefer: options.prefer }),
  });
}
