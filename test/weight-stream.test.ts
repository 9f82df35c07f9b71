import { describe, expect, it } from 'vitest';
import { expectedTensors } from '../engine/config.ts';
import { CpuBackend, ModelError } from '../engine/index.ts';
import { decodeToF32, type FloatDType } from '../engine/safetensors/convert.ts';
import { SafetensorsSource } from '../engine/safetensors/source.ts';
import { type Arrangement, type Place, type PlannedTensor, streamTensors } from '../engine/weight-stream.ts';
import { loadWeights, weightBytes } from '../engine/weights.ts';
import { product, type StoredArray, storedBytes, type WeightDType, weightDTypes } from '../kernels/contract.ts';
import { embedding } from '../kernels/embedding/index.ts';
import { encodeF16 } from '../kernels/f16.ts';
import { decodeRows, quantise, quantisedSections } from '../kernels/quantise.ts';
import { seededRandom } from '../kernels/random.ts';
import { openTestDevice, testDevices } from './support/devices.ts';
import { MemoryFile } from './support/memory-file.ts';
import {
  encodeFloats,
  encodeSafetensors,
  joinSafetensors,
  normals,
  randomWeights,
  smallConfig,
} from './support/model-files.ts';

interface Matrix {
  readonly shape: readonly [rows: number, width: number];
  readonly dtype: FloatDType;
  readonly data: Float32Array;
}

/** Normally distributed numbers as `dtype` holds them. */
function matrix(rows: number, width: number, dtype: FloatDType, seed: number): Matrix {
  const bytes = encodeFloats(normals(rows * width, seededRandom(seed)), dtype);
  return { shape: [rows, width], dtype, data: decodeToF32(bytes, dtype) };
}

const open = (tensors: Readonly<Record<string, Matrix>>) =>
  SafetensorsSource.open([new MemoryFile(encodeSafetensors(tensors))]);

/** Row by row, as `arrangement` says. */
function arranged(parts: readonly Matrix[], arrangement: Arrangement): Float32Array {
  const values = new Float32Array(parts.reduce((sum, { data }) => sum + data.length, 0));
  let firstRow = 0;
  for (const [k, { shape, data }] of parts.entries()) {
    const [rows, width] = shape;
    for (let j = 0; j < rows; j++) {
      const row = arrangement === 'stack' ? firstRow + j : j * parts.length + k;
      values.set(data.subarray(j * width, (j + 1) * width), row * width);
    }
    firstRow += rows;
  }
  return values;
}

/** A whole matrix as a device stores it. */
function stored(values: Float32Array, dtype: WeightDType, shape: Matrix['shape']): StoredArray {
  if (dtype === 'f32') return values;
  if (dtype === 'f16') return encodeF16(values);
  const words = new Uint32Array(storedBytes(dtype, shape) / 4);
  quantise(values, dtype, quantisedSections(dtype, shape, words));
  return words;
}

const cases: Readonly<
  Record<string, { arrangement: Arrangement; parts: Record<string, Matrix>; dtypes?: WeightDType[] }>
> = {
  'three matrices, stacked': {
    arrangement: 'stack',
    parts: { a: matrix(6, 64, 'F16', 1), b: matrix(2, 64, 'F32', 2), c: matrix(3, 64, 'BF16', 3) },
  },
  'two matrices, interleaved': {
    arrangement: 'interleave',
    parts: { gate: matrix(7, 96, 'F16', 4), up: matrix(7, 96, 'F16', 5) },
  },
  'several chunks of each, interleaved from one dtype': {
    arrangement: 'interleave',
    parts: { gate: matrix(2_100, 1024, 'F16', 8), up: matrix(2_100, 1024, 'F16', 9) },
    dtypes: ['f16'],
  },
  'several chunks, from bfloat16': {
    arrangement: 'stack',
    parts: { a: matrix(66_002, 33, 'BF16', 10), b: matrix(1, 33, 'BF16', 11) },
    dtypes: ['f16'],
  },
  'several chunks of each, interleaved from bfloat16': {
    arrangement: 'interleave',
    parts: { gate: matrix(5_001, 517, 'BF16', 12), up: matrix(5_001, 517, 'BF16', 13) },
    dtypes: ['f16', 'f32'],
  },
  'several chunks of each, interleaved from different dtypes': {
    arrangement: 'interleave',
    parts: { gate: matrix(33_001, 32, 'F32', 6), up: matrix(33_001, 32, 'BF16', 7) },
  },
};

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | Uint32Array | Uint16Array | Float64Array) =>
  Buffer.from(buffer, byteOffset, byteLength);

const devices = testDevices.filter((device) => device !== 'webgpu without features');

describe.each(devices)('on %s', (device) => {
  for (const [name, { arrangement, parts, dtypes = weightDTypes }] of Object.entries(cases)) {
    const expected = arranged(Object.values(parts), arrangement);
    it.each(dtypes)(`${name}, are loaded as %s`, async (dtype) => {
      const rows = Object.values(parts).reduce((sum, { shape }) => sum + shape[0], 0);
      const shape = [rows, Object.values(parts)[0]!.shape[1]] as const;
      await using source = await open(parts);
      await using backend = await openTestDevice(device);
      const plan = [{ label: 'loaded', dtype, shape, arrangement, sources: Object.keys(parts) }];
      for (const isPlaced of device === 'cpu' ? [false, true] : [false]) {
        const tensor = backend.allocate('loaded', dtype, shape);
        const place: Place = (_, firstRow, rows) => backend.rowsInPlace?.(tensor, firstRow, rows);
        const options = isPlaced ? { place, roundInPlace: backend.roundInPlace?.bind(backend) } : {};
        for await (const { firstRow, sections } of streamTensors(plan, source, options)) {
          if (sections.length > 0) backend.writeRows(tensor, firstRow, sections);
        }
        expect(bytesOf(await backend.read(tensor)).equals(bytesOf(stored(expected, dtype, shape)))).toBe(true);
      }
    });
  }
});

describe.each(devices.filter((device) => device !== 'cpu'))('on %s', (device) => {
  it.each(weightDTypes)('a table in %s that exceeds a binding is written to the right block', async (dtype) => {
    const table = matrix(1001, 96, 'F16', 8);
    await using source = await open({ table });
    await using backend = await openTestDevice(device, { largestBinding: 32 * 1024 });
    const loaded = backend.allocate('table', dtype, table.shape);
    const plan = [{ label: 'table', dtype, shape: table.shape, arrangement: 'stack' as const, sources: ['table'] }];
    for await (const { firstRow, sections } of streamTensors(plan, source)) {
      backend.writeRows(loaded, firstRow, sections);
    }
    const ids = Uint32Array.from({ length: 80 }, (_, i) => (i * 613) % 1001);
    const tensors = { ids: backend.allocate('ids', 'u32', [80]), out: backend.allocate('out', 'f32', [80, 96]) };
    backend.write(tensors.ids, ids);
    backend.run(embedding, { table: loaded, ...tensors });
    const whole = new Float32Array(product(table.shape));
    decodeRows(stored(table.data, dtype, table.shape), dtype, table.shape, 0, whole);
    const expected = Array.from(ids, (id) => Array.from(whole.subarray(id * 96, (id + 1) * 96)));
    expect(await backend.read(tensors.out)).toEqual(Float32Array.from(expected.flat()));
  });
});

/** A file of many tensors of zeros, none of which is in memory. */
function zeros(count: number, shape: readonly [number, number]) {
  const bytes = 2 * product(shape);
  const entry = (i: number) => ({ dtype: 'F16', shape, data_offsets: [i * bytes, (i + 1) * bytes] });
  const header = joinSafetensors(Object.fromEntries(Array.from({ length: count }, (_, i) => [`t${i}`, entry(i)])), []);
  const plan = Array.from({ length: count }, (_, i): PlannedTensor => {
    return { label: `t${i}`, dtype: 'q8', shape, arrangement: 'stack', sources: [`t${i}`] };
  });
  return { file: new MemoryFile(header, header.length + count * bytes), plan };
}

describe('a stream', () => {
  it('takes some chunks of host memory, whatever the size of the model', async () => {
    const { file, plan } = zeros(4, [8192, 2048]);
    await using source = await SafetensorsSource.open([file]);
    globalThis.gc!();
    const before = process.memoryUsage().arrayBuffers;
    let most = 0;
    let sourceBytes = 0;
    for await (const rows of streamTensors(plan, source)) {
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      sourceBytes += rows.sourceBytes;
    }
    expect(sourceBytes).toBe(128 * 2 ** 20);
    expect(most).toBeLessThan(64 * 2 ** 20);
  });

  it('reads the next tensor while one is converted', async () => {
    const { file, plan } = zeros(3, [4, 32]);
    await using source = await SafetensorsSource.open([file]);
    const readsBefore = file.reads.length;
    const seen: number[] = [];
    for await (const _ of streamTensors(plan, source)) seen.push(file.reads.length - readsBefore);
    expect(seen).toEqual([2, 3, 3]);
  });

  it('lets go of its readers when it is left early', async () => {
    const { file, plan } = zeros(3, [40_000, 64]);
    await using source = await SafetensorsSource.open([file]);
    for await (const _ of streamTensors(plan, source)) break;
    const settled = file.reads.length;
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(file.reads).toHaveLength(settled);
  });
});

describe('loading weights', () => {
  const config = smallConfig({ hiddenSize: 64, intermediateSize: 96, numAttentionHeads: 4, headDim: 12 });
  const tensorsOf = (change: (name: string, data: Float32Array) => void = () => {}) => {
    const shapes = expectedTensors(config);
    return Object.fromEntries(
      [...randomWeights(config, 1, 'F32')].map(([name, data]) => {
        change(name, data);
        return [name, { dtype: 'F32' as const, shape: shapes.get(name) as Matrix['shape'], data }];
      }),
    );
  };

  it.each(weightDTypes)('takes the bytes that were told, in %s', async (dtype) => {
    await using source = await open(tensorsOf());
    const backend = new CpuBackend();
    const { layers, embedding, finalNorm, head } = await loadWeights(backend, config, source, dtype);
    expect(backend.memory.liveBytes).toBe(weightBytes(config, dtype));
    expect(finalNorm.dtype).toBe('f32');
    for (const { dtype: held } of [embedding, head, layers[1]!.down]) expect(held).toBe(dtype);
    // 4 heads of 12 make rows of 48, no whole blocks.
    expect(layers[0]!.attentionOutput.dtype).toBe(dtype === 'f32' ? 'f32' : 'f16');
  });

  it('tells of all bytes of the checkpoint', async () => {
    await using source = await open(tensorsOf());
    const told: number[] = [];
    const options = { onProgress: ({ loadedBytes }: { loadedBytes: number }) => told.push(loadedBytes) };
    await loadWeights(new CpuBackend(), config, source, 'q4', options);
    expect(told.at(-1)).toBe(source.totalBytes);
  });

  it.each([
    ['f16', 1e6, /'model.layers.1.mlp.up_proj.weight' holds a number beyond the range of f16/],
    ['q8', Number.NaN, /'model.layers.1.mlp.up_proj.weight' holds numbers that q8 cannot/],
    ['q4', Number.NEGATIVE_INFINITY, /'model.layers.1.mlp.up_proj.weight' holds numbers that q4 cannot/],
  ] as const)('in %s refuses %f by name, and leaves nothing behind', async (dtype, value, message) => {
    await using source = await open(
      tensorsOf((name, data) => {
        if (name.startsWith('model.layers.1.mlp.up_proj')) data[77] = value;
      }),
    );
    const backend = new CpuBackend();
    const loading = loadWeights(backend, config, source, dtype);
    await expect(loading).rejects.toThrow(ModelError);
    await expect(loading).rejects.toThrow(message);
    expect(backend.memory.liveBytes).toBe(0);
  });

  it('from bfloat16 to its place refuses what is beyond the range of f16 by name', async () => {
    const names = ['gate', 'up'].map((name) => `model.layers.1.mlp.${name}_proj.weight`);
    for (const name of names) {
      await using source = await open(
        Object.fromEntries(
          Object.entries(tensorsOf()).map(([other, { shape, data }]) => {
            if (other === name) data[77] = 2 ** 17;
            return [other, { dtype: 'BF16' as const, shape, data }];
          }),
        ),
      );
      await using backend = await openTestDevice('cpu');
      const rounded: number[] = [];
      backend.roundInPlace = (
        (round) => (bytes) =>
          rounded.push(bytes.length) && round(bytes)
      )(backend.roundInPlace!.bind(backend));
      const loading = loadWeights(backend, config, source, 'f16');
      await expect(loading).rejects.toThrow(`'${name}' holds a number beyond the range of f16`);
      expect(rounded, 'bytes that were rounded').toContain(2 * 2 * 96 * 64);
      expect(backend.memory.liveBytes).toBe(0);
    }
  });

  it('stops when it is told to', async () => {
    await using source = await open(tensorsOf());
    const backend = new CpuBackend();
    const stop = new AbortController();
    const onProgress = () => stop.abort(new Error('enough'));
    await expect(loadWeights(backend, config, source, 'q8', { signal: stop.signal, onProgress })).rejects.toThrow(
      'enough',
    );
    expect(backend.memory.liveBytes).toBe(0);
  });
});
