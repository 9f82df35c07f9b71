import { type MemoryType, mostPages, pageBytes } from '../../kernels/wasm/encoding.ts';
import { hasSimd, type WasmFeature, wasmFeatures } from '../../kernels/wasm/features.ts';
import { DeviceError } from '../errors.ts';
import type { Preference } from '../preference.ts';
import { WasmBackend } from './backend.ts';
import { LinearMemory } from './memory.ts';
import { OneThread } from './one-thread.ts';
import { type StartThread, ThreadPool } from './threads.ts';

/** More threads than any machine has use for. */
export const mostThreads = 1024;
/** Kept for what kernels need beside tensors: working memory of the threads, and recorded passes. */
const workingBytes = 128 * 2 ** 20;

export interface OpenWasmOptions {
  /** How threads are started; without it everything runs in the calling thread. */
  readonly startThread?: StartThread | undefined;
  readonly threads?: number | undefined;
  /** The processor's name, to be shown. */
  readonly hardware?: string | undefined;
  /** Bytes that may be allocated in all. */
  readonly memoryBudget?: number | undefined;
  /**
   * Bytes that are going to be. More than a 32-bit memory holds, 4 GiB, are put into a 64-bit one where the engine has
   * it, up to 16 GiB: kernels are some slower there, since every access has to be checked (decision 0018).
   */
  readonly memoryNeeded?: number | undefined;
  /** See `WasmBackendOptions.prefer`. */
  readonly prefer?: Preference | undefined;
  /** Features that kernels may use; by default all that the engine has. */
  readonly features?: ReadonlySet<WasmFeature> | undefined;
}

/** Whether memory can be shared with other threads: in a page only where it is isolated from other origins. */
const canShare = (): boolean =>
  typeof SharedArrayBuffer === 'function' &&
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;

/**
 * Opens the processor for WebAssembly SIMD.
 * @throws DeviceError `device-unavailable` where the engine has no SIMD, or `threads` is no number of threads or of more
 *   than the system starts, `out-of-memory` where the system grants no memory
 */
export function openWasm(options: OpenWasmOptions = {}): WasmBackend {
  const { startThread, threads = 1, hardware = '', features = wasmFeatures(), prefer = {} } = options;
  const { memoryBudget = Number.POSITIVE_INFINITY } = options;
  if (!(Number.isInteger(threads) && threads > 0 && threads <= mostThreads)) {
    throw new DeviceError(
      'device-unavailable',
      `'threads' must be a whole number from 1 to ${mostThreads}, but is ${threads}.`,
    );
  }
  if (!hasSimd()) {
    throw new DeviceError('device-unavailable', 'This JavaScript engine has no WebAssembly SIMD.');
  }
  const { memory, bound } = openMemory(startThread !== undefined && canShare(), features, options);
  const { shared, bits } = memory.type;
  const executor = shared ? new ThreadPool(memory, threads, startThread!) : new OneThread(memory);
  const where = shared
    ? `${threads} thread${threads === 1 ? '' : 's'}`
    : 'the calling thread, as memory cannot be shared';
  const most = memory.limit - workingBytes;
  const simd = features.has('relaxed-simd') ? 'relaxed SIMD' : 'SIMD';
  return new WasmBackend({
    description: {
      kind: 'cpu',
      name: `WebAssembly ${simd} on ${where}${bits === 64 ? ', in 64-bit memory' : ''}`,
      hardware,
      software: false,
      threads: executor.threads,
      features: [...features],
    },
    memory,
    memoryBudget: Math.min(memoryBudget, most),
    memoryBound: memoryBudget > most ? bound : undefined,
    executor,
    features,
    prefer,
  });
}

/** The best memory that can be had for what is needed, and why it holds no more. */
function openMemory(
  share: boolean,
  features: ReadonlySet<WasmFeature>,
  { memoryBudget = Number.POSITIVE_INFINITY, memoryNeeded = 0 }: OpenWasmOptions,
): { readonly memory: LinearMemory; readonly bound: string } {
  const open = (type: MemoryType) => new LinearMemory(type, memoryBudget);
  const isLarge = memoryNeeded + workingBytes > mostPages[32] * pageBytes;
  const types: MemoryType[] = [
    ...(isLarge && features.has('memory64') ? [{ shared: share, bits: 64 } as const] : []),
    { shared: share, bits: 32 },
    ...(share ? [{ shared: false, bits: 32 } as const] : []),
  ];
  const memory = firstOf(types, open);
  const lacking = isLarge && !features.has('memory64');
  return {
    memory,
    bound: lacking
      ? `${memory.bound}, and this engine has no 64-bit one (Node.js has from version 24 on)`
      : memory.bound,
  };
}

/** What the first makes of which something is made; throws what the last one throws. */
function firstOf<T, R>(candidates: readonly T[], make: (candidate: T) => R): R {
  for (const candidate of candidates.slice(0, -1)) {
    try {
      return make(candidate);
    } catch {
      // The next may do.
    }
  }
  return make(candidates.at(-1)!);
}
