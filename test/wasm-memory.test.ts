import { afterEach, describe, expect, it, vi } from 'vitest';
import { Llama, memoryNeeds } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { openCpu } from '../engine/node/open-cpu.ts';
import { startWorker } from '../engine/node/start-worker.ts';
import type { WasmBackend } from '../engine/wasm/backend.ts';
import { LinearMemory } from '../engine/wasm/memory.ts';
import { openWasm } from '../engine/wasm/open.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';
import { smallConfig } from './support/model-files.ts';
import { loadRandomModel } from './support/random-model.ts';

afterEach(() => {
  vi.unstubAllGlobals();
});

const hasMemory64 = wasmFeatures().has('memory64');

/** A system that grants no memories but those that `grants` accepts. */
function granting(grants: (descriptor: WebAssembly.MemoryDescriptor) => boolean): void {
  const { Memory } = WebAssembly;
  class Rationed extends Memory {
    constructor(descriptor: WebAssembly.MemoryDescriptor) {
      if (!grants(descriptor)) throw new RangeError('could not allocate memory');
      super(descriptor);
    }
  }
  vi.stubGlobal(
    'WebAssembly',
    new Proxy(WebAssembly, { get: (all, name) => (name === 'Memory' ? Rationed : all[name as never]) }),
  );
}

describe('a linear memory', () => {
  it('hands blocks out first-fit, zero-filled, and joins what is free', () => {
    const memory = new LinearMemory({ shared: false, bits: 32 }, Number.POSITIVE_INFINITY);
    const [a, b, c] = [100, 200, 300].map((bytes, i) => memory.allocate(`${i}`, bytes)) as [number, number, number];
    memory.bytes.fill(255, a, a + 100);
    memory.free(a);
    memory.free(b);
    memory.free(b);
    expect(memory.allocate('both', 300)).toBe(a);
    expect(memory.bytes.subarray(a, a + 300).every((byte) => byte === 0)).toBe(true);
    memory.free(c);
    memory.freeAll();
    expect(memory.liveBytes).toBe(0);
  });

  it('says what is too much, and what would help', () => {
    const memory = new LinearMemory({ shared: false, bits: 32 }, 2 ** 20);
    expect(() => memory.allocate('embedding', 2 ** 21)).toThrow(
      /'embedding' needs 2\.0 MiB.*the budget is 1\.0 MiB.*q8/,
    );
    const whole = new LinearMemory({ shared: true, bits: 32 }, Number.POSITIVE_INFINITY);
    expect(() => whole.allocate('embedding', 2 ** 32)).toThrow(/all that a 32-bit WebAssembly memory holds/);
  });

  it('takes less where the system refuses 4 GiB of addresses', () => {
    granting(({ maximum }) => maximum! <= 16_384);
    expect(new LinearMemory({ shared: true, bits: 32 }, Number.POSITIVE_INFINITY).limit).toBe(2 ** 30);
    granting(() => false);
    expect(() => new LinearMemory({ shared: true, bits: 32 }, 1)).toThrow(/refuses a WebAssembly memory/);
  });

  it.runIf(hasMemory64)('of 64 bits holds more, of which a tensor may take 4 GiB', () => {
    const memory = new LinearMemory({ shared: true, bits: 64 }, Number.POSITIVE_INFINITY);
    expect(memory.limit).toBe(2 ** 34);
    memory.allocate('nearly 4 GiB', 2 ** 32 - 2 ** 10);
    const beyond = memory.allocate('beyond', 100);
    expect(beyond).toBeGreaterThan(2 ** 32 - 2 ** 10);
    memory.bytes.fill(7, beyond, beyond + 100);
    memory.free(beyond);
    expect(memory.allocate('again', 100)).toBe(beyond);
    expect(memory.bytes[beyond + 99]).toBe(0);
    expect(() => memory.allocate('embedding', 2 ** 32)).toThrow(/4\.00 GiB, all that one tensor may take/);
  });
});

describe('the memory of the processor', () => {
  it('has 32 bits where that is enough', async () => {
    for (const memoryNeeded of [undefined, 3.5 * 2 ** 30]) {
      await using device = openWasm({ memoryNeeded });
      expect(device.description.name).not.toContain('64-bit');
      expect(device.memoryBound).toBe('all that a 32-bit WebAssembly memory holds');
    }
    await using bounded = openWasm({ memoryBudget: 2 ** 30 });
    expect(bounded.memoryBound).toBeUndefined();
  });

  it('is the calling thread where the system grants none that is shared, and plain TypeScript where it grants none', async () => {
    granting(({ shared }) => !shared);
    await using alone = openWasm({ startThread: startWorker, threads: 2 });
    expect(alone.description.name).toContain('on the calling thread, as memory cannot be shared');
    granting(() => false);
    expect(() => openWasm()).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
    const { backend, note } = openCpu();
    await using _ = backend;
    expect(backend.description.name).toContain('TypeScript');
    expect(note).toBe('the system refuses a WebAssembly memory, so plain TypeScript is used, which is slow');
  });

  it('says of a model that is too large for 32 bits how much it needs and as what it would fit', async () => {
    const config = smallConfig({
      vocabularySize: 128_256,
      hiddenSize: 3072,
      intermediateSize: 8192,
      numHiddenLayers: 28,
      numAttentionHeads: 24,
      numKeyValueHeads: 8,
      headDim: 128,
    });
    const device = openWasm({ memoryNeeded: 2 ** 33, features: new Set() });
    const nowhere = {} as Parameters<typeof Llama.load>[2];
    const loading = Llama.load(device, config, nowhere, { dtype: 'f16', cacheTokens: 1024 });
    await expect(loading).rejects.toMatchObject({ code: 'out-of-memory' });
    await expect(loading).rejects.toThrow(
      /^The model needs 6\.\d\d GiB .* but there is 3\.88 GiB, all that a 32-bit WebAssembly memory holds, and this engine has no 64-bit one \(Node\.js has from version 24 on\)\. As q8 it needs 3\.\d\d GiB\./,
    );
  });

  it('is too little for a model at load, or enough for the largest pass', async () => {
    const config = smallConfig({ hiddenSize: 240, intermediateSize: 640, maxPositionEmbeddings: 512 });
    const options = { dtype: 'f32', contextLength: 512, cacheTokens: 512 } as const;
    const { total } = memoryNeeds(config, options);
    const passes = async (memoryBudget: number) => {
      const { llama } = await loadRandomModel(config, 'cpu', { ...options, memoryBudget });
      await using _ = llama;
      for (const count of [40, 200, 500]) {
        using context = llama.createContext();
        await llama.logits([{ context, ids: new Array<number>(count).fill(7), wanted: [count - 1] }]);
      }
    };
    for (const more of [400_000, 1_600_000, 2_400_000]) {
      await expect(passes(total + more)).rejects.toThrow(/'scratch of kernels' needs 2\.7 MiB/);
    }
    await passes(total + 3_200_000);
  });

  it('holds nothing of an operation that it has no room for', async () => {
    await using device = openWasm({ memoryBudget: 2 ** 20 });
    const x = device.allocate('x', 'f32', [64, 512]);
    const weight = device.allocate('weight', 'f32', [64, 512]);
    const out = device.allocate('out', 'f32', [64, 64]);
    device.allocate('all but the panels of x', 'f32', [2 ** 18 - 2 * 64 * 512 - 64 * 64 - 30_000]);
    const { liveBytes } = device.memory;
    for (let i = 0; i < 3; i++) {
      expect(() => device.run(matmul, { x, weight, out })).toThrow(expect.objectContaining({ code: 'out-of-memory' }));
      expect(device.memory.liveBytes).toBe(liveBytes);
    }
  });

  it.runIf(hasMemory64)('holds a whole model beyond 4 GiB, which computes the same', async () => {
    const ids = [1, ...Array.from({ length: 60 }, (_, i) => 100 + 7 * i)];
    const logProbabilities = async (device: WasmBackend) => {
      await using model = await openModelFolder(embeddedModel);
      await using llama = await Llama.load(device, model.config, model.source, { dtype: 'f16' });
      using context = llama.createContext();
      const [rows] = await llama.logProbabilities([{ context, ids, wanted: [ids.length - 1] }], [10, 20]);
      return [...rows![0]!];
    };
    const threads = { startThread: startWorker, threads: 2 };
    const wide = openWasm({ ...threads, memoryNeeded: 2 ** 33 });
    for (const part of ['first', 'second']) wide.allocate(`${part} half of 4 GiB`, 'f32', [2 ** 29]);
    expect(await logProbabilities(wide)).toEqual(await logProbabilities(openWasm(threads)));
  });
});
