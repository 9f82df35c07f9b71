import { setFlagsFromString } from 'node:v8';
import { afterAll, describe, expect, test } from 'vitest';
import type { KernelBackend } from '../engine/backend.ts';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { startWorker } from '../engine/node/start-worker.ts';
import type { WasmBackend } from '../engine/wasm/backend.ts';
import { type OpenWasmOptions, openWasm } from '../engine/wasm/open.ts';
import { kernels as wasmKernels } from '../engine/wasm/variants.ts';
import type { WebGpuBackend } from '../engine/webgpu/backend.ts';
import { kernels as webgpuKernels } from '../engine/webgpu/variants.ts';
import { type AnyOperation, isQuantised, shapeOf, storedBytes } from '../kernels/contract.ts';
import type { AnyCpuVariant, AnyReference } from '../kernels/cpu.ts';
import { discover } from '../kernels/discover.node.ts';
import { normals } from '../kernels/random.ts';
import { dtypeCombinations, prepare, type Trial, trials, verify } from '../kernels/verification.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';
import type { AnyWasmVariant } from '../kernels/wasm/kernel.ts';
import { type AnyVariant, availableVariants } from '../kernels/webgpu.ts';
import { testDevices } from './support/devices.ts';

const operations = await discover();
const devices: Record<string, WebGpuBackend> = testDevices.includes('webgpu')
  ? {
      'all features': await openWebGpu({ features: 'all' }),
      'no optional features': await openWebGpu({ features: 'none' }),
    }
  : {};
const none = new Set<never>();
// What Node.js 20 has behind a flag.
if (!wasmFeatures().has('relaxed-simd')) setFlagsFromString('--experimental-wasm-relaxed-simd');
const processors: Record<string, WasmBackend> = {
  'in the calling thread': openWasm({ features: none }),
  'on 1 thread': openWasm({ startThread: startWorker, threads: 1, features: none }),
  'on 2 threads': openWasm({ startThread: startWorker, threads: 2, features: none }),
  ...(wasmFeatures().has('relaxed-simd')
    ? { 'on 2 threads, with relaxed SIMD': openWasm({ startThread: startWorker, threads: 2 }) }
    : {}),
  ...(wasmFeatures().has('memory64')
    ? {
        'in the calling thread, beyond 4 GiB': openBeyond4GiB(),
        'on 2 threads, beyond 4 GiB': openBeyond4GiB({ startThread: startWorker, threads: 2 }),
      }
    : {}),
};

/** A device in whose memory nothing but what was never written to lies within the reach of 32 bits. */
function openBeyond4GiB(options: OpenWasmOptions = {}): WasmBackend {
  const device = openWasm({ ...options, memoryNeeded: 2 ** 33, memoryBudget: 2 ** 33 });
  for (const part of ['first', 'second']) device.allocate(`${part} half of 4 GiB`, 'f32', [2 ** 29]);
  return device;
}

afterAll(async () => {
  for (const device of Object.values({ ...devices, ...processors })) await device[Symbol.asyncDispose]();
});

for (const { operation, reference, cpu, wasm, webgpu } of operations) {
  describe(operation.name, async () => {
    const all = [...trials(operation, reference), ...trialsOfNoNumber(operation, reference)];

    test('the engine chooses from what is verified here, by names of their own', () => {
      expect(wasmKernels[operation.name]).toEqual(wasm);
      expect(webgpuKernels[operation.name]).toEqual(webgpu);
      for (const variants of [wasm, webgpu]) {
        const names = variants.map(({ name }) => name);
        expect(names).toEqual([...new Set(names)]);
      }
    });

    for (const variant of cpu) {
      test(`cpu/${variant.name}`, () => {
        expect(all.flatMap((trial) => runOnProcessor(variant, trial))).toEqual([]);
      });
    }

    for (const [name, device] of Object.entries(processors)) {
      const served = wasm.filter(({ needs }) => needs.every((feature) => device.features.has(feature)));
      test.each(served)(`wasm/$name, ${name}`, async (variant) => {
        const fitting = all.filter(({ dims, dtypes }) => variant.fits(dims, dtypes));
        expect(fitting, 'cases that the variant serves').not.toEqual([]);
        for (const trial of fitting) expect(await runOnDevice(device, variant, trial)).toEqual([]);
      });

      test(`every case is served, ${name}`, () => {
        expect(
          all
            .filter(({ dims, dtypes }) => !served.some((variant) => variant.fits(dims, dtypes)))
            .map(({ label }) => label),
        ).toEqual([]);
      });
    }

    for (const [name, device] of Object.entries(devices)) {
      const served = availableVariants(webgpu, device.traits);
      for (const variant of served) {
        test(`webgpu/${variant.name}, ${name}`, async () => {
          const fitting = all.filter(({ dims, dtypes }) => variant.fits(dims, dtypes));
          expect(fitting, 'cases that the variant serves').not.toEqual([]);
          for (const trial of fitting) expect(await runOnDevice(device, variant, trial)).toEqual([]);
        });
      }

      test(`every case is served, ${name}`, () => {
        for (const { label, dims, dtypes } of all) {
          expect(
            served.some((variant) => variant.fits(dims, dtypes)),
            label,
          ).toBe(true);
        }
      });
    }
  });
}

/** Of matrix products with a row that holds what is no number: rounded or clamped it must not become one. */
function trialsOfNoNumber(operation: AnyOperation, reference: AnyReference): Trial[] {
  if (!('weight' in operation.tensors && 'inputs' in operation.cases[0]!.dims)) return [];
  const inputs: NonNullable<AnyOperation['inputs']> = ({ rows, inputs }, random) => {
    const x = normals(random, rows! * inputs!);
    x[inputs! * (rows! - 1) + 5] = Number.NaN;
    return { x };
  };
  return dtypeCombinations(operation).flatMap((dtypes) =>
    [1, 20].map((rows) => {
      const dims = { rows, inputs: 128, block: 64, outputs: 64 };
      return prepare({ ...operation, inputs }, reference, { dims }, dtypes, rows);
    }),
  );
}

/** What is wrong with the tensors that the variant wrote. */
function runOnProcessor(variant: AnyCpuVariant, trial: Trial): string[] {
  const { operation } = variant;
  const whole = Object.fromEntries(Object.entries(trial.before).map(([name, array]) => [name, array.slice()]));
  const tensors = Object.fromEntries(
    Object.entries(whole).map(([name, array]) => [
      name,
      array.subarray(
        0,
        storedBytes(trial.dtypes[name]!, shapeOf(operation.tensors[name], trial.dims)) / array.BYTES_PER_ELEMENT,
      ),
    ]),
  );
  variant.run(tensors, trial.dims, trial.scalars, trial.dtypes);
  return Object.keys(trial.expected).flatMap((name) => verify(operation, trial, name, whole[name]!) ?? []);
}

/** What is wrong with the tensors that the variant wrote; leaves nothing on the device. */
async function runOnDevice<V extends AnyVariant | AnyWasmVariant>(
  device: KernelBackend<V>,
  variant: V,
  trial: Trial,
): Promise<string[]> {
  const { operation } = variant;
  const whole = Object.fromEntries(
    Object.entries(trial.before).map(([name, array]) => {
      const dtype = trial.dtypes[name]!;
      const tensor = device.allocate(name, isQuantised(dtype) ? 'u32' : dtype, [array.length]);
      device.write(tensor, array);
      return [name, tensor];
    }),
  );
  const shaped = Object.entries(whole).map(([name, tensor]) => {
    return [name, tensor.view(shapeOf(operation.tensors[name], trial.dims), trial.dtypes[name])] as const;
  });
  device.runVariant(variant, Object.fromEntries(shaped), trial.scalars);
  const problems: string[] = [];
  for (const name of Object.keys(trial.expected)) {
    const problem = verify(operation, trial, name, await device.read(whole[name]!), variant.tolerance);
    if (problem) problems.push(problem);
  }
  for (const tensor of Object.values(whole)) tensor[Symbol.dispose]();
  return problems;
}
