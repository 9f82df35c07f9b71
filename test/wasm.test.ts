import { setFlagsFromString } from 'node:v8';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCpu } from '../engine/node/open-cpu.ts';
import { openDevice } from '../engine/node/open-device.ts';
import { startWorker } from '../engine/node/start-worker.ts';
import { openWasm } from '../engine/wasm/open.ts';
import { storedBytes } from '../kernels/contract.ts';
import { f16ToF32, f32ToF16 as f32ToF16Reference } from '../kernels/f16.ts';
import { store } from '../kernels/matmul/epilogue.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { int8 } from '../kernels/matmul/int8-wasm.ts';
import { integerDots } from '../kernels/matmul/integer-dots.ts';
import { integers } from '../kernels/matmul/integers.ts';
import { matmulAdd } from '../kernels/matmul-add/index.ts';
import { quantise, quantisedSections } from '../kernels/quantise.ts';
import { seededRandom } from '../kernels/random.ts';
import { signed, unsigned } from '../kernels/wasm/encoding.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';
import { type FunctionBuilder, ModuleBuilder } from '../kernels/wasm/function.ts';
import { exp, f16ToF32x4, f32ToF16, log } from '../kernels/wasm/mathematics.ts';
import { Address, F32, I32 } from '../kernels/wasm/scalars.ts';
import type { Value } from '../kernels/wasm/value.ts';
import { F32x4, I32x4 } from '../kernels/wasm/vectors.ts';

// What Node.js 20 has behind a flag.
if (!wasmFeatures().has('relaxed-simd')) setFlagsFromString('--experimental-wasm-relaxed-simd');

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** What an expression makes of each number: it is given the address of one and its result is stored in its place. */
function evaluate(
  input: Float32Array | Uint32Array,
  expression: (f: FunctionBuilder, at: Address) => Value,
): Float32Array {
  const memory = new WebAssembly.Memory({ initial: 1 + Math.ceil((4 * input.length) / 65_536) });
  const module = new ModuleBuilder({ shared: false, bits: 32 });
  module.define([Address, Address], (f, [begin, end]) => f.for(begin, end, 4, (at) => f.store(at, expression(f, at))));
  const { run } = new WebAssembly.Instance(new WebAssembly.Module(module.encode()), { env: { memory } }).exports;
  new Uint32Array(memory.buffer).set(new Uint32Array(input.buffer));
  (run as (begin: number, end: number) => void)(0, 4 * input.length);
  return new Float32Array(memory.buffer, 0, input.length).slice();
}

describe('the emitter', () => {
  it('writes LEB128 as the specification has it', () => {
    expect(unsigned(624_485)).toEqual([0xe5, 0x8e, 0x26]);
    expect(unsigned(0xffff_ffff)).toEqual([0xff, 0xff, 0xff, 0xff, 0x0f]);
    expect(signed(-123_456)).toEqual([0xc0, 0xbb, 0x78]);
    expect([signed(63), signed(64), signed(-64), signed(-65)]).toEqual([[63], [0xc0, 0], [0x40], [0xbf, 0x7f]]);
    expect(signed(-(2 ** 31))).toEqual([0x80, 0x80, 0x80, 0x80, 0x78]);
  });

  it('counts unsigned, and not at all where there is nothing to count', () => {
    const counted = evaluate(Uint32Array.of(0, 1, 7), (f, at) => {
      const rounds = f.let(F32.const(0));
      f.for(0, I32.load(at), 3, () => f.set(rounds, rounds.add(F32.const(1))));
      return rounds;
    });
    expect([...counted]).toEqual([0, 1, 3]);
  });
});

describe('mathematics', () => {
  const between = (low: number, high: number) =>
    Float32Array.from({ length: 20_001 }, (_, i) => low + ((high - low) * i) / 20_000);
  const worst = (input: Float32Array, output: Float32Array, error: (x: number, y: number) => number) =>
    input.reduce((most, x, i) => Math.max(most, error(x, output[i]!)), 0);

  it('has an exp within 2e-7 of the right one', () => {
    const x = between(-87, 88);
    const y = evaluate(x, (f, at) => exp(f, F32x4.loadSplat(at)).lane(0));
    expect(worst(x, y, (x, y) => Math.abs(y / Math.exp(x) - 1))).toBeLessThan(2e-7);
    expect(evaluate(Float32Array.of(-1000, -1e30, 0), (f, at) => exp(f, F32x4.loadSplat(at)).lane(0))[2]).toBe(1);
  });

  it('has a log within 3e-7 of the right one', () => {
    const error = (x: number, y: number) => Math.abs(y - Math.log(x)) / Math.max(1, Math.abs(Math.log(x)));
    for (const x of [between(0.5, 2), between(2, 40_000), between(1e-30, 1e-28)]) {
      expect(
        worst(
          x,
          evaluate(x, (f, at) => log(f, F32.load(at))),
          error,
        ),
      ).toBeLessThan(3e-7);
    }
    expect([...evaluate(Float32Array.of(1), (f, at) => log(f, F32.load(at)))]).toEqual([0]);
  });

  it('reads every f16 exactly', () => {
    const halves = Uint32Array.from({ length: 65_536 }, (_, i) => (i << 16) >> 16);
    const floats = evaluate(halves, (f, at) => f16ToF32x4(f, I32x4.splat(I32.load(at))).lane(0));
    expect(floats.findIndex((value, i) => !Object.is(value, f16ToF32(i)))).toBe(-1);
  });

  it('writes every f16, what lies between two and what lies beyond as the nearest', () => {
    const finite = Array.from({ length: 0x7c00 }, (_, i) => f16ToF32(i));
    const between = finite.flatMap((x, i) => (i > 0 ? [0.25, 0.5, 0.75].map((t) => x + t * (finite[i - 1]! - x)) : []));
    const magnitudes = [...finite, ...between, 65_519, 65_520, 1e30, Number.POSITIVE_INFINITY, 1e-12];
    const numbers = Float32Array.from([...magnitudes, ...magnitudes.map((x) => -x)]);
    const bits = new Uint32Array(evaluate(numbers, (f, at) => f32ToF16(f, F32.load(at))).buffer);
    expect(bits.findIndex((half, i) => half !== f32ToF16Reference(numbers[i]!))).toBe(-1);
  });
});

/** A matrix in q8. */
function quantised(values: Float32Array, shape: readonly number[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(storedBytes('q8', shape) / 4);
  quantise(values, 'q8', quantisedSections('q8', shape, words));
  return words;
}

/** A product, and a second one added to it after the weight was overwritten, all queued at once. */
async function products(device: ReturnType<typeof openWasm>): Promise<number[]> {
  const random = seededRandom(7);
  const numbers = (length: number) => Float32Array.from({ length }, () => random() - 0.5);
  const x = device.allocate('x', 'f32', [37, 96]);
  const weight = device.allocate('weight', 'f32', [70, 96]);
  const out = device.allocate('out', 'f32', [37, 70]);
  device.write(x, numbers(37 * 96));
  device.write(weight, numbers(70 * 96));
  device.run(matmul, { x, weight, out });
  device.write(weight, numbers(70 * 96));
  device.run(matmulAdd, { x, weight, out });
  const result = device.read(out);
  for (const tensor of [x, weight, out]) tensor[Symbol.dispose]();
  return Array.from(await result);
}

describe('the processor', () => {
  it('gives the same bits on any number of threads, and in the calling thread', async () => {
    await using alone = openWasm();
    expect(alone.description.name).toContain('calling thread');
    const expected = await products(alone);
    for (const threads of [1, 2, 3]) {
      await using device = openWasm({ startThread: startWorker, threads });
      expect(await products(device)).toEqual(expected);
    }
  });

  it.runIf(wasmFeatures().has('memory64'))(
    'gives the same bits in a 64-bit memory, on threads and without',
    async () => {
      await using narrow = openWasm();
      const expected = await products(narrow);
      for (const options of [{}, { startThread: startWorker, threads: 2 }]) {
        await using wide = openWasm({ ...options, memoryNeeded: 2 ** 33 });
        expect(wide.description.name).toMatch(/in 64-bit memory$/);
        expect(await products(wide)).toEqual(expected);
      }
    },
  );

  it('leaves nothing behind', async () => {
    const device = openWasm({ startThread: startWorker, threads: 2 });
    await products(device);
    const { liveBytes, buffersCreated } = device.memory;
    await products(device);
    await device.finish();
    expect(device.memory).toMatchObject({ liveBytes, buffersCreated: buffersCreated + 3 });
    await device[Symbol.asyncDispose]();
    expect(device.memory.liveBytes).toBe(0);
    expect(() => device.allocate('late', 'f32', [1])).toThrow(/disposed/);
    await expect(device.finish()).rejects.toMatchObject({ code: 'device-unavailable' });
  });

  it('keeps the order of what is asked of it while the calling thread computes, and ends in the midst of it', async () => {
    const device = openWasm();
    const x = device.allocate('x', 'f32', [512, 512]);
    const weight = device.allocate('weight', 'f32', [512, 512]);
    const out = device.allocate('out', 'f32', [512, 512]);
    const firstOf = async (product: Promise<unknown>) => ((await product) as Float32Array)[0];
    device.write(x, new Float32Array(512 * 512).fill(1));
    device.write(weight, new Float32Array(512 * 512).fill(1));
    device.run(matmul, { x, weight, out });
    const before = firstOf(device.read(out));
    // The product is under way, and takes more than one turn of the event loop.
    await new Promise(setImmediate);
    device.write(x, new Float32Array(512 * 512).fill(2));
    device.run(matmul, { x, weight, out });
    expect(await Promise.all([before, firstOf(device.read(out))])).toEqual([512, 1024]);

    device.run(matmul, { x, weight, out });
    const ended = device.finish();
    await new Promise(setImmediate);
    await device[Symbol.asyncDispose]();
    await expect(ended).rejects.toMatchObject({ code: 'device-unavailable' });
    expect(device.memory.liveBytes).toBe(0);
  });

  it('says where memory cannot be shared, and uses the calling thread', async () => {
    vi.stubGlobal('crossOriginIsolated', false);
    await using device = openWasm({ startThread: startWorker, threads: 2 });
    expect(device.description.name).toMatch(/^WebAssembly (relaxed )?SIMD on the calling thread, as memory cannot be /);
    expect(await products(device)).toHaveLength(37 * 70);
  });

  it('says where there is no SIMD, and uses plain TypeScript', async () => {
    vi.spyOn(WebAssembly, 'validate').mockReturnValue(false);
    const { backend, note } = openCpu();
    await using _ = backend;
    expect(backend.description.name).toContain('TypeScript');
    expect(note).toMatch(/no WebAssembly SIMD/);
    expect(() => openWasm()).toThrow(/no WebAssembly SIMD/);
  });

  it('multiplies in bytes where that is asked for by name, and says which names there are', async () => {
    const x = Float32Array.from({ length: 8 * 64 }, (_, i) => Math.sin(i));
    const shape = [6, 64];
    const weight = quantised(x.subarray(0, 6 * 64), shape);
    const product = async (prefer: Record<string, string>) => {
      await using device = openWasm({ prefer });
      const tensors = {
        x: device.allocate('x', 'f32', [8, 64]),
        weight: device.allocate('weight', 'q8', shape),
        out: device.allocate('out', 'f32', [8, 6]),
      };
      device.write(tensors.x, x);
      device.write(tensors.weight, weight);
      device.run(matmul, tensors);
      return (await device.read(tensors.out)) as Float32Array;
    };
    const exact = await product({});
    const coarse = await product({ matmul: 'int8' });
    expect(coarse).not.toEqual(exact);
    expect(Math.max(...exact.map((sum, i) => Math.abs(sum - coarse[i]!)))).toBeLessThan(0.02 * Math.max(...exact));
    expect(await product({ 'matmul-add': 'int8' })).toEqual(exact);
    // What only a GPU has is no mistake: 'auto' may come down to either.
    const { backend } = await openDevice('cpu', { prefer: { matmul: 'vec4' } });
    await backend[Symbol.asyncDispose]();
    const mistaken = openDevice('cpu', { prefer: { matmul: 'tiled' } });
    await expect(mistaken).rejects.toMatchObject({ code: 'no-variant', message: expect.stringContaining("'tiled'") });
  });

  it.each([
    { rows: 6, kernel: int8(matmul, store) },
    { rows: 6, kernel: integers(matmul, store) },
    { rows: 4, kernel: integerDots(matmul, store) },
  ])('$kernel.name take the largest numbers, and none for none', async ({ rows, kernel }) => {
    const [inputs, outputs] = [64, 3];
    const shape = [outputs, inputs];
    await using device = openWasm();
    const weight = quantised(new Float32Array(outputs * inputs).fill(1), shape);
    // As builds of other tools have them: this package makes none of -128.
    quantisedSections('q8', shape, weight).quants.fill(-128);
    const x = new Float32Array(rows * inputs).fill(3);
    x.fill(0, inputs, 2 * inputs);
    x[2 * inputs + 9] = Number.NaN;
    x[3 * inputs + 9] = Number.POSITIVE_INFINITY;
    const tensors = {
      x: device.allocate('x', 'f32', [rows, inputs]),
      weight: device.allocate('weight', 'q8', shape),
      out: device.allocate('out', 'f32', [rows, outputs]),
    };
    device.write(tensors.x, x);
    device.write(tensors.weight, weight);
    device.runVariant(kernel, tensors);
    const out = (await device.read(tensors.out)) as Float32Array;
    const scale = f16ToF32(quantisedSections('q8', shape, weight).parameters[0]!);
    expect(out[0]! / (3 * inputs * -128 * scale)).toBeCloseTo(1, 4);
    expect(out[outputs]).toBeCloseTo(0, 10);
    expect([...out.subarray(2 * outputs, 4 * outputs)].map(Number.isFinite)).not.toContain(true);
  });

  it('wants a number of threads', () => {
    expect(() => openCpu({ threads: 0 })).toThrow(/from 1 to 1024, but is 0/);
  });
});
