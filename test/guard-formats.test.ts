import { expect, it } from 'vitest';
import { run } from '../bench/formats.ts';
import type { FormatsResult } from '../bench/schema.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';
import { testDevices } from './support/devices.ts';

const device = testDevices.includes('webgpu') ? 'webgpu' : 'cpu';

/**
 * Errors of the score against f32 on the bundled conversations, the reference prompts among them: twice what was
 * measured on lavapipe and on its processor.
 */
const bounds: Readonly<Record<string, { mean: number; largest: number; saved: number }>> = {
  f32: { mean: 1e-9, largest: 1e-9, saved: -1e-9 },
  f16: { mean: 1e-4, largest: 1e-3, saved: 0.499 },
  q8: { mean: 5e-4, largest: 3e-3, saved: 0.73 },
  // To eight bits by WebGPU, to seven by the processor.
  'q8, activations rounded too':
    device === 'webgpu' ? { mean: 9e-4, largest: 7e-3, saved: 0.73 } : { mean: 2.8e-3, largest: 0.026, saved: 0.73 },
  q4: { mean: 0.021, largest: 0.25, saved: 0.84 },
};

it('every weight format keeps the verdicts, and the scores within its bounds', async () => {
  const { formats = [] } = await run({ device, hasAdapter: true, quick: false, progress: () => {} });
  const [{ conversations, labelled, rows, targets }] = formats as [FormatsResult];
  expect({ conversations, labelled, targets }).toEqual({ conversations: 28, labelled: 0, targets: [] });
  expect(rows.map(({ format }) => format)).toEqual(
    Object.keys(bounds).filter(
      (format) => device === 'webgpu' || wasmFeatures().has('relaxed-simd') || !format.includes('activations'),
    ),
  );
  for (const { format, meanError, maxError, flips, saved } of rows) {
    expect(flips, format).toBe(0);
    expect(meanError, format).toBeLessThan(bounds[format]!.mean);
    expect(maxError, format).toBeLessThan(bounds[format]!.largest);
    expect(saved, format).toBeGreaterThan(bounds[format]!.saved);
  }
});
