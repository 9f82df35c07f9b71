import type { KernelBackend } from '../engine/backend.ts';
import { DeviceError } from '../engine/errors.ts';
import { openCpu } from '../engine/node/open-cpu.ts';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { WasmBackend } from '../engine/wasm/backend.ts';
import type { Discovered } from '../kernels/discover.node.ts';
import type { AnyWasmVariant } from '../kernels/wasm/kernel.ts';
import { type AnyVariant, availableVariants } from '../kernels/webgpu.ts';
import type { Kernel, LimitKernels } from './limits.ts';
import { wasmLimits } from './limits-wasm.ts';
import { bufferCopies, webGpuLimits } from './limits-webgpu.ts';
import type { Ceilings } from './schema.ts';

/** A device whose kernels are measured: what they run on, which it has, and what finds its limits. */
export interface Subject<K extends Kernel> {
  readonly backend: KernelBackend<K>;
  /** Bytes of the largest tensor that a kernel can be given. */
  readonly largestTensor: number;
  /** Of an operation's kernels, those that this device has the features for. */
  available(found: Discovered): readonly K[];
  readonly limits: LimitKernels<K>;
  /** Copies by other means than a kernel, in GB/s. */
  copies?(): Promise<Ceilings['bandwidth']>;
}

/** @throws DeviceError `device-unavailable` */
export async function openWebGpuSubject(): Promise<Subject<AnyVariant>> {
  const backend = await openWebGpu();
  return {
    backend,
    largestTensor: backend.largestBinding,
    available: ({ webgpu }) => availableVariants(webgpu, backend.traits),
    limits: webGpuLimits(backend.traits),
    copies: bufferCopies,
  };
}

/**
 * @param threads as many as the cores that may be used, unless told
 * @throws DeviceError `device-unavailable` where the engine has no SIMD or no memory can be had
 */
export function openCpuSubject(threads: number | undefined): Subject<AnyWasmVariant> {
  const { backend, note } = openCpu({ threads });
  if (!(backend instanceof WasmBackend)) {
    throw new DeviceError('device-unavailable', `There are no kernels of the processor to measure: ${note}.`);
  }
  const { features, memoryBudget } = backend;
  return {
    backend,
    // A few have to fit side by side.
    largestTensor: memoryBudget / 4,
    available: ({ wasm }) => wasm.filter(({ needs }) => needs.every((feature) => features.has(feature))),
    limits: wasmLimits(features),
  };
}
