import { hasSimd, type WasmFeature, wasmFeatures } from '../../kernels/wasm/features.ts';
import { DeviceError } from '../errors.ts';
import { WasmBackend } from './backend.ts';
import { LinearMemory } from './memory.ts';
import { OneThread } from './one-thread.ts';
import { type StartThread, ThreadPool } from './threads.ts';

/** More threads than any machine has use for. */
export const mostThreads = 1024;

export interface OpenWasmOptions {
  /** How threads are started; without it everything runs in the calling thread. */
  readonly startThread?: StartThread | undefined;
  readonly threads?: number | undefined;
  /** The processor's name, to be shown. */
  readonly hardware?: string | undefined;
  /** Bytes that the model may take in all; a 32-bit memory holds 4 GiB. */
  readonly memoryBudget?: number | undefined;
  /** Features that kernels may use; by default all that the engine has. */
  readonly features?: ReadonlySet<WasmFeature> | undefined;
}

/** Whether memory can be shared with other threads: in a page only where it is isolated from other origins. */
const canShare = (): boolean =>
  typeof SharedArrayBuffer === 'function' &&
  (globalThis as { crossOriginIsolated?: boolean }).crossOriginIsolated !== false;

/**
 * Opens the processor for WebAssembly SIMD.
 * @throws DeviceError `device-unavailable` where the engine has no SIMD or no memory can be had
 */
export function openWasm(options: OpenWasmOptions = {}): WasmBackend {
  const { startThread, threads = 1, memoryBudget, hardware = '', features = wasmFeatures() } = options;
  if (!(Number.isInteger(threads) && threads > 0 && threads <= mostThreads)) {
    throw new DeviceError(
      'device-unavailable',
      `'threads' must be a whole number from 1 to ${mostThreads}, but is ${threads}.`,
    );
  }
  if (!hasSimd()) {
    throw new DeviceError('device-unavailable', 'This JavaScript engine has no WebAssembly SIMD.');
  }
  const share = startThread !== undefined && canShare();
  const memory = new LinearMemory(share, memoryBudget ?? Number.POSITIVE_INFINITY);
  const executor = share ? new ThreadPool(memory.memory, threads, startThread) : new OneThread(memory.memory);
  const where = share
    ? `${threads} thread${threads === 1 ? '' : 's'}`
    : 'the calling thread, as memory cannot be shared';
  return new WasmBackend({
    description: {
      kind: 'cpu',
      name: `WebAssembly SIMD on ${where}`,
      hardware,
      software: false,
      threads: executor.threads,
      features: [...features],
    },
    memory,
    memoryBudget: Math.min(memoryBudget ?? Number.POSITIVE_INFINITY, memory.limit),
    executor,
    features,
  });
}

/** Starts threads in a page. */
export const startWebWorker: StartThread = (script, on) => {
  const prelude = 'const receive = (take) => { onmessage = ({ data }) => take(data); }; const send = postMessage;\n';
  const address = URL.createObjectURL(new Blob([prelude, script], { type: 'text/javascript' }));
  const worker = new Worker(address);
  worker.onmessage = ({ data }) => on.message(data);
  worker.onerror = ({ message }) => on.failure(message);
  URL.revokeObjectURL(address);
  return {
    post: (message) => worker.postMessage(message),
    hold: () => {},
    terminate: () => worker.terminate(),
  };
};
