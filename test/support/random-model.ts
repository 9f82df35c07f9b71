import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Llama, type LlamaConfig, type LlamaOptions } from '../../engine/index.ts';
import { openModelFolder } from '../../engine/node/disk-folder.ts';
import { type DeviceOptions, openTestDevice, type TestDevice } from './devices.ts';
import { randomWeights, writeModelFolder } from './model-files.ts';

/** A random model, its float64 weights, and the engine on a device. */
export async function loadRandomModel(
  config: LlamaConfig,
  device: TestDevice,
  options: Partial<LlamaOptions> & DeviceOptions & { seed?: number } = {},
) {
  const { seed = 1, memoryBudget, largestBinding, gpu, prefer, ...rest } = options;
  const folder = await mkdtemp(join(tmpdir(), 'guard-engine-'));
  try {
    await writeModelFolder(folder, config, { seed, dtype: 'F16' });
    await using opened = await openModelFolder(folder);
    const backend = await openTestDevice(device, {
      ...(memoryBudget === undefined ? {} : { memoryBudget }),
      ...(largestBinding === undefined ? {} : { largestBinding }),
      ...(gpu === undefined ? {} : { gpu }),
      ...(prefer === undefined ? {} : { prefer }),
    });
    const llama = await Llama.load(backend, opened.config, opened.source, { dtype: 'f32', ...rest });
    const weights = new Map(
      [...randomWeights(config, seed, 'F16')].map(([name, values]) => [name, Float64Array.from(values)] as const),
    );
    return { llama, backend, weights };
  } finally {
    await rm(folder, { recursive: true });
  }
}
