import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';
import type { DeviceDescription } from '../engine/index.ts';
import { createGpu, dawnToggles } from '../engine/node/open-webgpu.ts';
import { describeAdapter } from '../engine/webgpu/open.ts';
import type { ComputedOn, Environment } from './schema.ts';

/** Where and of what figures were taken. */
export async function describeEnvironment(): Promise<Environment> {
  return {
    date: new Date().toISOString(),
    commit: commit(),
    arguments: process.argv.slice(2),
    node: process.version,
    processor: { model: cpus()[0]?.model ?? 'unknown', cores: cpus().length },
    adapter: await adapterInfo(),
  };
}

/** Where something was computed, out of what a device says of itself. */
export const computedOn = ({ kind, name, threads }: DeviceDescription): ComputedOn => ({
  device: kind,
  name,
  ...(kind === 'cpu' && threads !== undefined ? { threads } : {}),
});

/** The adapter that the engine would open; null where there is none. */
async function adapterInfo(): Promise<Environment['adapter']> {
  const gpu = await createGpu().catch(() => undefined);
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) return null;
  const { vendor, architecture, device } = adapter.info;
  const { name, software, features } = describeAdapter(adapter);
  return { name, vendor, architecture, device, software, features: [...features], toggles: [...dawnToggles] };
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty', '--abbrev=40'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}
