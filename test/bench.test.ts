import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { compareResults, compareTimings } from '../bench/compare.ts';
import { readConversations } from '../bench/conversations.ts';
import { watchEventLoop } from '../bench/event-loop.ts';
import { kernelTargets } from '../bench/kernel-targets.ts';
import { measure, measureDispatches, summarise } from '../bench/measure.ts';
import { devicesOf } from '../bench/measurement.ts';
import { makeRandomWeights } from '../bench/random-weights.ts';
import { renderReport } from '../bench/report.ts';
import { attainable, leastMilliseconds, roofOf } from '../bench/roofline.ts';
import { chooseSample, onlySample, sampledReference } from '../bench/sample.ts';
import {
  type Environment,
  formatResult,
  formatVersion,
  type KernelRow,
  makeResult,
  parseResult,
  type Result,
  readResult,
  type Target,
} from '../bench/schema.ts';
import { linearFlops, shapes } from '../bench/shapes.ts';
import { openCpuSubject } from '../bench/subject.ts';
import { tablesOf } from '../bench/tables.ts';
import { type Backend, Llama, memoryNeeds } from '../engine/index.ts';
import { attention } from '../kernels/attention/index.ts';
import { reference as attend } from '../kernels/attention/reference.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { reference as multiply } from '../kernels/matmul/reference.ts';
import { seededRandom } from '../kernels/random.ts';
import { prepare, verify } from '../kernels/verification.ts';
import { openTestDevice, testDevices } from './support/devices.ts';

const environment: Environment = {
  date: '2026-01-02T03:04:05.678Z',
  commit: 'abc-dirty',
  arguments: ['kernels'],
  node: 'v20.0.0',
  processor: { model: 'a processor', cores: 2 },
  adapter: {
    name: 'driver <script>alert("1")</script> & co',
    vendor: '"><img src=x onerror=alert(1)>',
    architecture: 'a',
    device: "d'",
    software: true,
    features: ['subgroups'],
    toggles: ['allow_unsafe_apis'],
  },
};
const row: KernelRow = {
  operation: 'matmul',
  variant: '</title><script>alert(2)</script>',
  label: 'a & b',
  dtypes: 'f32',
  median: 2,
  p90: 2.2,
  runs: 5,
  flops: 4e6,
  bytes: 1e6,
  gflops: 2,
  gigabytesPerSecond: 0.5,
  share: 0.5,
  clock: 'wall',
  verified: 'whole',
};
const ceilings = {
  bandwidth: [
    { name: 'copying', gigabytesPerSecond: 8 },
    { name: 'reading', gigabytesPerSecond: 10 },
  ],
  arithmetic: [
    { name: 'f32', dtypes: ['f32', 'f16', 'q8', 'q4'], gflops: 40 },
    { name: '16-bit integers', dtypes: ['q8', 'q4'], gflops: 70 },
  ],
};
const onWebGpu = { device: 'webgpu', name: 'n' } as const;
const onCpu = { device: 'cpu', name: 'p', threads: 2 } as const;
const targets: Target[] = [
  { name: 'r', value: 3, bound: 'at least', target: 2 },
  { name: 's', value: 3, bound: 'at most', target: 2 },
];
const scenario = { median: 10, p90: 11, runs: 5, policy: 'the default', messageTokens: 30, promptTokens: 300 };
const result = makeResult(environment, {
  kernels: [
    {
      ...onWebGpu,
      ceilings,
      rows: [row],
      skipped: [{ operation: 'matmul', variant: 'v', label: 'l', dtypes: 'f32', reason: 'too <long>' }],
      targets: [],
    },
    { ...onCpu, ceilings, rows: [{ ...row, variant: 'panels' }], skipped: [], targets },
  ],
  guard: [
    {
      ...onCpu,
      model: 'm',
      dtype: 'f16',
      coldStart: { modules: 1, device: 2, weights: 3, ready: 4, firstCheck: 5, runs: 3 },
      checks: [{ ...scenario, newTokens: 90 }],
      uncached: [{ ...scenario, median: 30, p90: 31 }],
      batches: [1, 32].map((size) => ({ median: 10 * size, p90: 11 * size, runs: 5, size, newTokens: 90 * size })),
      eventLoop: { longest: 1.5, checks: 30 },
      targets,
      notes: [],
    },
  ],
});
/** The same with its kernels `times` as fast. */
const faster = (times: number): Result => ({
  ...result,
  kernels: result.kernels!.map((device) => ({
    ...device,
    rows: device.rows.map((row) => ({ ...row, median: row.median / times, p90: row.p90 / times })),
  })),
});

describe('a result', () => {
  test('survives the way through its file', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bench-'));
    const file = join(folder, 'result.json');
    await writeFile(file, formatResult(result));
    expect(await readResult(file)).toEqual(result);
    await rm(folder, { recursive: true });
    await expect(readResult(file)).rejects.toMatchObject({ code: 'result-not-found' });
  });

  test.each([
    ['no JSON', '{', /a\.json: it is not JSON/],
    ['another program', '{"format":"coverage","version":2}', /not a result of this benchmark/],
    ['a list', '[]', /not a result of this benchmark/],
    [
      'another version',
      formatResult({ ...result, version: 1 as never }),
      new RegExp(`version 1 .* version ${formatVersion}`),
    ],
    ['a broken figure', formatResult(result).replace('"median": 2,', '"median": "2",'), /kernels\.0\.rows\.0\.median/],
    ['a lost section', formatResult({ ...result, environment: undefined as never }), /environment/],
  ])('is refused where it is %s', (_, text, message) => {
    expect(() => parseResult(text, 'a.json')).toThrow(message);
    expect(() => parseResult(text, 'a.json')).toThrow(expect.objectContaining({ code: 'result-invalid' }));
  });
});

describe('compare', () => {
  test.each([
    [{ median: 10, p90: 11 }, { median: 5, p90: 5.1 }, 2, true],
    [{ median: 10, p90: 11 }, { median: 9.5, p90: 9.6 }, 10 / 9.5, false],
    [{ median: 10, p90: 10.1 }, { median: 15, p90: 24 }, 10 / 15, false],
    [{ median: 10, p90: 11 }, { median: 20, p90: 21 }, 0.5, true],
  ])('%o against %o', (before, after, ratio, beyondNoise) => {
    expect(compareTimings({ runs: 5, ...before }, { runs: 5, ...after })).toEqual({ ratio, beyondNoise });
  });

  test('matches rows by device and name and marks what changed', () => {
    const [, webgpu, cpu, guard] = compareResults(result, faster(2));
    for (const { rows } of [webgpu!, cpu!]) expect(rows[0]!.slice(1)).toEqual(['2.00', '1.00', '2.00', 'faster']);
    expect(guard!.rows.every((cells) => cells[3] === '1.00' && cells[4] === '')).toBe(true);
  });

  test('does not mix devices, or numbers of threads', () => {
    const alone = { ...result, kernels: result.kernels!.map((on) => (on.threads ? { ...on, threads: 1 } : on)) };
    const titles = compareResults(result, alone).map(({ title }) => title);
    expect(titles).toEqual(['Two results', 'Kernels on webgpu', 'Guard: m on cpu, 2 threads, f16']);
  });

  test('says when the adapters differ, and what only one of the two has', () => {
    const other = { ...environment, adapter: { ...environment.adapter!, name: 'another' } };
    const [summary] = compareResults(result, { ...faster(1), environment: other, guard: [] });
    expect(summary!.notes.join()).toMatch(/ADAPTERS DIFFER/);
    expect(summary!.notes.join()).toMatch(/Only in the first: 5 rows; only in the second: 0/);
    expect(compareResults(result, result)[0]!.notes.join()).not.toMatch(/DIFFER/);
  });
});

describe('the report', () => {
  const page = renderReport([result, faster(2)]);

  test('draws all it has', () => {
    // Latency, throughput, and a roofline for each device of each result.
    expect(page.match(/<svg viewBox/g)).toHaveLength(6);
    expect(page).toContain('A software adapter');
  });

  test('escapes what came from drivers and files', () => {
    expect(page).not.toMatch(/<script|<img|<\/title><s/i);
    expect(page).toContain('&#60;script&#62;');
  });

  test('needs nothing but itself', () => {
    expect(page.replaceAll('http://www.w3.org/2000/svg', '')).not.toMatch(
      /https?:|<[^>]*\s(?:src|href)=|@import|url\(/,
    );
  });

  test('is a page even of an empty result', () => {
    expect(renderReport([makeResult({ ...environment, adapter: null }, {})])).toMatch(/<\/html>\n$/);
  });
});

test('a figure reaches its bound, or stays within it', () => {
  const reached = tablesOf(result).filter(({ title }) => title.endsWith('what to reach'));
  expect(reached.map(({ title }) => title)).toEqual([
    'Kernels on cpu: what to reach',
    'Guard, m on cpu (p), f16: what to reach',
  ]);
  for (const { rows } of reached) {
    expect(rows).toEqual([
      ['r', '3.00', 'at least 2.00', 'yes'],
      ['s', '3.00', 'at most 2.00', 'no'],
    ]);
  }
});

test('the roofline is the lower of the two roofs', () => {
  const roof = roofOf(ceilings, ['f32']);
  expect(roof).toEqual({ peak: 40, bandwidth: 10 });
  expect(roofOf(ceilings, ['f32', 'f16']).peak).toBe(40);
  expect(roofOf(ceilings, ['f32', 'q8']).peak).toBe(70);
  expect([1, 4, 100].map((intensity) => attainable(roof, intensity))).toEqual([10, 40, 40]);
  expect(leastMilliseconds(roof, 80e6, 1e6)).toBe(2);
  expect(leastMilliseconds(roof, 1e6, 30e6)).toBe(3);
});

test('the median and the 90th percentile are nearest ranks', () => {
  expect(summarise([5, 1, 4, 2, 3])).toEqual({ median: 3, p90: 5, runs: 5 });
  expect(summarise(Array.from({ length: 10 }, (_, i) => i + 1))).toEqual({ median: 5, p90: 9, runs: 10 });
});

test('every run is given an input of its own', async () => {
  const seen: number[] = [];
  await measure(
    async (run: number) => seen.push(run),
    { minimumMs: 0, minimumRuns: 3, warmUps: 2 },
    (run) => run,
  );
  expect(seen).toEqual([0, 1, 2, 3, 4]);
});

describe('a sample', () => {
  const rows = {
    operation: matmul,
    reference: multiply,
    example: { dims: { rows: 40_000, inputs: 32, block: 48, outputs: 48 } },
  };
  const heads = {
    operation: attention,
    reference: attend,
    example: attention.benchmarks.find(({ label }) => label === '1b after the policy')!,
  };

  test.each([rows, heads])('of $operation.name is computed as in the whole', ({ operation, reference, example }) => {
    const dtypes = Object.fromEntries(
      Object.entries(operation.tensors).map(([name, contract]) => [name, contract.dtypes[0]!]),
    );
    const sample = chooseSample(operation, example, seededRandom(1))!;
    expect(sample.chosen).toEqual(expect.arrayContaining([0, sample.count - 1]));
    const whole = prepare(operation, reference, example, dtypes, 1);
    const part = prepare(operation, sampledReference(operation, reference, sample), example, dtypes, 1);
    const after = Float32Array.from(whole.before.out!);
    after.set(whole.expected.out!);
    expect(verify(operation, part, 'out', onlySample(operation, part, 'out', after, sample))).toBeUndefined();
    expect(part.expected.out!.some(Number.isNaN)).toBe(true);
    // An error in a part that was chosen is found, even in the last one.
    after[whole.expected.out!.length - 1]! += 1e3;
    expect(verify(operation, part, 'out', onlySample(operation, part, 'out', after, sample))).toMatch(/1 of/);
  });

  test('is not taken where the reference affords all', () => {
    expect(
      chooseSample(matmul, { dims: { rows: 10, inputs: 10, block: 10, outputs: 10 } }, seededRandom(1)),
    ).toBeUndefined();
  });
});

test('the linear layers of Llama-2-7B cost 12.95 GFLOP a token', () => {
  const before = linearFlops(shapes['7b'], 1000, 0);
  const perToken = (linearFlops({ ...shapes['7b'], numHiddenLayers: 33 }, 1000, 0) - before) / 1000;
  expect((32 * perToken) / 1e9).toBeCloseTo(12.95, 2);
});

test('the kernels of the processor have targets at one size, on two threads', () => {
  const at = (variant: string, dtypes: string, gflops: number, label = '512 x 1024 x 1024') => ({
    ...row,
    variant,
    dtypes,
    gflops,
    label,
  });
  const rows = [
    at('panels', 'f32', 66),
    at('panels', 'f32', 9, 'other'),
    at('panels', 'f32/q8', 60),
    at('integers', 'f32/q8', 99),
    at('int8', 'f32/q4', 200),
  ];
  expect(kernelTargets(onCpu, rows).map(({ value, target }) => [value, target])).toEqual([
    [66, 60],
    [1.5, 1.5],
  ]);
  expect(kernelTargets(onCpu, [...rows, at('int8', 'f32/q8', 132)]).map(({ value }) => value)).toEqual([66, 1.5, 2]);
  expect(kernelTargets({ ...onCpu, threads: 1 }, rows)).toHaveLength(1);
  expect(kernelTargets(onCpu, [])).toEqual([]);
  expect(kernelTargets(onWebGpu, rows)).toEqual([]);
});

test('a device is asked for by name, or all are measured', () => {
  expect(devicesOf({ device: 'auto', hasAdapter: true })).toEqual(['webgpu', 'cpu']);
  expect(devicesOf({ device: 'auto', hasAdapter: false })).toEqual(['cpu']);
  expect(devicesOf({ device: 'webgpu', hasAdapter: false })).toEqual(['webgpu']);
});

describe('measuring dispatches', () => {
  // A clock that only the device moves on: what the tests see does not depend on how busy a machine is.
  let now = 0;
  beforeEach(() => {
    vi.spyOn(performance, 'now').mockImplementation(() => now);
  });
  afterEach(() => vi.restoreAllMocks());

  /** A device that takes `ms` for each dispatch and counts what was queued. */
  const device = (ms: number, time?: (queue: () => void) => Promise<number | undefined>) => {
    let queued = 0;
    const recorded: { operations: number; [Symbol.dispose](): void }[] = [];
    const backend = {
      record(task: () => void) {
        queued = 0;
        task();
        const recording = { operations: queued, [Symbol.dispose]: () => {} };
        recorded.push(recording);
        return recording;
      },
      replay: () => {},
      finish: async () => {
        now += ms * recorded.at(-1)!.operations;
      },
      ...(time ? { time } : {}),
    };
    return { backend, recorded, queue: () => queued++ };
  };

  test('takes as many to a pass as the clock needs', async () => {
    const { backend, recorded, queue } = device(1);
    const { clock, median } = await measureDispatches(backend, queue, { minimumMs: 1, minimumRuns: 3 });
    expect(clock).toBe('wall');
    expect(median).toBe(1);
    expect(recorded.map(({ operations }) => operations).slice(0, 3)).toEqual([1, 5, 5]);
  });

  test("takes the device's own clock where it has one", async () => {
    const { backend, queue } = device(0, async () => 10);
    expect(await measureDispatches(backend, queue, { minimumMs: 0, minimumRuns: 3 })).toMatchObject({
      clock: 'timestamps',
      median: 10,
    });
  });
});

describe('the processor as a subject', () => {
  test('runs every kernel that finds a limit', async () => {
    const { backend, limits } = openCpuSubject(2);
    await using _ = backend;
    const elements = 2 ** 15;
    const numbers = Float32Array.from({ length: elements }, (_, i) => i % 7);
    const x = backend.allocate('x', 'f32', [elements]);
    const out = backend.allocate('out', 'f32', [elements]);
    const sum = backend.allocate('sum', 'f32', [1]);
    backend.write(x, numbers);
    backend.runVariant(limits.copying, { x, out });
    expect(await backend.read(out)).toEqual(numbers);
    const largest = numbers.reduce((total, number) => total + number);
    backend.runVariant(limits.reading, { x, out: sum }, { bound: largest });
    expect(await backend.read(sum)).toEqual(Float32Array.of(0));
    backend.runVariant(limits.reading, { x, out: sum }, { bound: -1 });
    expect((await backend.read(sum))[0]).toBeGreaterThan(0);
    const results = backend.allocate('results', 'f32', [3]);
    for (const { name, variant, flopsPerRound } of limits.arithmetic) {
      backend.runVariant(variant, { out: results }, { rounds: 64, factor: 0.5, addend: 0.5 });
      const each = await backend.read(results);
      // Every chain and lane has come to 1.
      if (name === 'f32') expect(each).toEqual(new Float32Array(3).fill(flopsPerRound / 4 / 2));
    }
  });

  test('needs a number of threads', () => {
    expect(() => openCpuSubject(0)).toThrow(/from 1 to 1024/);
  });
});

test('the event loop is watched from end to end', async () => {
  const block = (ms: number) => {
    const end = performance.now() + ms;
    while (performance.now() < end);
  };
  for (const work of [
    async () => block(20),
    async () => {
      await new Promise(setImmediate);
      block(20);
      await new Promise((resolve) => setTimeout(resolve, 5));
    },
  ]) {
    const stop = watchEventLoop();
    await work();
    const longest = stop();
    expect(longest).toBeGreaterThan(18);
    expect(longest).toBeLessThan(200);
  }
});

describe('conversations', () => {
  const read = async (text: string) => {
    const folder = await mkdtemp(join(tmpdir(), 'bench-'));
    const file = join(folder, 'data.jsonl');
    await writeFile(file, text);
    try {
      return readConversations(file);
    } finally {
      await rm(folder, { recursive: true });
    }
  };

  test('come as messages or a prompt, labelled or not', async () => {
    const messages = [{ role: 'user', content: 'hello' }];
    const lines = [
      { messages, unsafe: 0, id: 'a', categories: [] },
      { prompt: 'hello', unsafe: 1 },
      { messages, role: 'user', unsafe: null },
    ];
    expect(await read(`${lines.map((line) => JSON.stringify(line)).join('\n\n')}\n`)).toEqual([
      { messages, unsafe: 0 },
      { messages: 'hello', unsafe: 1 },
      { messages, role: 'user' },
    ]);
  });

  test.each([
    ['{"prompt":"a"}\n{', /line 2: it is not JSON/],
    ['{"prompt":"a","unsafe":2}', /line 1: unsafe: /],
    ['{"unsafe":1}', /line 1: it must have either "messages" or "prompt"/],
    ['{"messages":[{"role":"king","content":""}]}', /line 1: messages\.0\.role/],
  ])('%s is refused', async (text, message) => {
    await expect(read(text)).rejects.toThrow(message);
    await expect(read(text)).rejects.toMatchObject({ code: 'data-invalid' });
  });

  test('have to be there', () => {
    expect(() => readConversations('/nowhere.jsonl')).toThrow(expect.objectContaining({ code: 'data-not-found' }));
  });
});

describe.each(testDevices)('random weights on %s', (device) => {
  test.each(['f16', 'q8', 'q4'] as const)(
    'make a model of %s of the predicted size, with sane logits',
    async (dtype) => {
      const backend: Backend = await openTestDevice(device);
      const config = { ...shapes.tiny, numHiddenLayers: 2 };
      const options = { dtype, contextLength: 64, cacheTokens: 64 };
      await using llama = await Llama.fromWeights(
        backend,
        config,
        () => makeRandomWeights(backend, config, dtype),
        options,
      );
      using context = llama.createContext();
      const [[logits]] = (await llama.logits([{ context, ids: [1, 2, 3, 4], wanted: [3] }])) as [[Float32Array]];
      const deviation = Math.sqrt(logits.reduce((sum, x) => sum + x * x, 0) / logits.length);
      expect(deviation).toBeGreaterThan(0.8);
      expect(deviation).toBeLessThan(1.2);
      const { total } = memoryNeeds(config, options);
      expect(Math.abs(llama.memory.liveBytes / total - 1)).toBeLessThan(0.05);
    },
  );
});
