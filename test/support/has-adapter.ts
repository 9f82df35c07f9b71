/** Exits with 0 where WebGPU finds an adapter and with 1 where it does not. */
import { findWebGpuAdapter } from '../../engine/node/open-webgpu.ts';

process.exit((await findWebGpuAdapter()) ? 0 : 1);
