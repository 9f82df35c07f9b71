/** Matrix products of the same numbers, by the engine's backend and by a peer, checked against each other and timed. */
import { cpus } from 'node:os';
import type { Backend } from '../../engine/index.ts';
import { encodeF16, f16ToF32, f32ToF16 } from '../../kernels/f16.ts';
import { matmul } from '../../kernels/matmul/index.ts';
import { seededRandom } from '../../kernels/random.ts';
import { timeInTurn, timeOnce } from './in-turn.ts';
import { deviceName, threadsOf } from './ours.ts';
import type { Report, Row } from './rows.ts';

export type FloatDType = 'f32' | 'f16';

/** `y = x Wᵀ`: (rows, inputs) by (outputs, inputs). */
export interface Shape {
  readonly label?: string;
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
}

export interface Problem extends Shape {
  readonly dtype: FloatDType;
  readonly x: Float32Array;
  /** `(outputs, inputs)`, as a checkpoint holds it; its numbers are already rounded to `dtype`, and so are those of `x`. */
  readonly weight: Float32Array;
}

/** A product set up at one contestant; its numbers are on the device. */
export interface Product extends AsyncDisposable {
  /** Queues the product so many times and waits until the last is done. */
  run(times: number): Promise<void>;
  /** The product, `(rows, outputs)`. */
  result(): Promise<Float32Array>;
}

/** A way in which a peer computes a product; `note` says what is particular about it. */
export interface PeerMethod {
  readonly note?: string;
  prepare(problem: Problem): Promise<Product>;
}

/** The shapes that the project's targets name, and those of real layers: many rows of a prompt, one row of a token. */
export const shapes = {
  named: [
    { rows: 256, inputs: 1024, outputs: 1024 },
    { rows: 512, inputs: 1024, outputs: 1024 },
    { rows: 512, inputs: 2048, outputs: 2048 },
  ],
  layers: [
    { label: 'tiny-guard mlp up', rows: 294, inputs: 192, outputs: 512 },
    { label: 'tiny-guard mlp down', rows: 294, inputs: 512, outputs: 192 },
    { label: '1b mlp up', rows: 66, inputs: 2048, outputs: 8192 },
    { label: '1b mlp up', rows: 1, inputs: 2048, outputs: 8192 },
  ],
} as const satisfies Record<string, readonly Shape[]>;

/** Waiting for a device is drowned in so many milliseconds of work, but in at most so many products. */
const waitMs = 20;
const mostProducts = 16;

/**
 * How far two right answers may be apart, in units of the largest number. Peers add up in f16 where the inputs are f16:
 * sums of 2,048 products lose up to 0.016 that way. A wrong product is off by about 1.
 */
const tolerance = { f32: 1e-5, f16: 2 ** -5 } as const;

/** Numbers of deviation about 1, so that a product's are too. */
export function makeProblem(shape: Shape, dtype: FloatDType): Problem {
  const random = seededRandom(shape.rows * 31 + shape.inputs);
  const numbers = (count: number, scale: number) =>
    Float32Array.from({ length: count }, () => {
      const value = (random() - 0.5) * scale;
      return dtype === 'f16' ? f16ToF32(f32ToF16(value)) : value;
    });
  return {
    ...shape,
    dtype,
    x: numbers(shape.rows * shape.inputs, Math.sqrt(12)),
    weight: numbers(shape.outputs * shape.inputs, Math.sqrt(12 / shape.inputs)),
  };
}

/** `matrix`, (rows, columns), as (columns, rows). */
export function transpose(matrix: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(matrix.length);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j]!;
  }
  return result;
}

/** Ours, through the backend, by the variant that the engine would take. */
function ourProduct(backend: Backend, { rows, inputs, outputs, dtype, x, weight }: Problem): Product {
  const tensors = {
    x: backend.allocate('x', 'f32', [rows, inputs]),
    weight: backend.allocate('weight', dtype, [outputs, inputs]),
    out: backend.allocate('out', 'f32', [rows, outputs]),
  };
  backend.write(tensors.x, x);
  backend.write(tensors.weight, dtype === 'f16' ? encodeF16(weight) : weight);
  return {
    async run(times) {
      for (let i = 0; i < times; i++) backend.run(matmul, tensors);
      await backend.finish();
    },
    async result() {
      backend.run(matmul, tensors);
      return (await backend.read(tensors.out)) as Float32Array;
    },
    async [Symbol.asyncDispose]() {
      for (const tensor of Object.values(tensors)) tensor[Symbol.dispose]();
    },
  };
}

/** Checks a peer's product against ours and times the two in turn. A method that fails is reported, and the rest goes on. */
export async function contest(
  backend: Backend,
  problem: Problem,
  methods: readonly PeerMethod[],
  peer: Pick<Row, 'session' | 'peer' | 'device' | 'threads'>,
  report: Report,
): Promise<void> {
  const { rows, inputs, outputs, dtype, label } = problem;
  const about = {
    session: peer.session,
    work: 'matmul',
    shape: `${rows}x${inputs}x${outputs}${label ? ` ${label}` : ''}`,
    dtype,
  } as const;
  await using ours = ourProduct(backend, problem);
  const expected = await ours.result();
  for (const { note, prepare } of methods) {
    const noted = note ? { note } : {};
    try {
      await using theirs = await prepare(problem);
      const deviation = largestDeviation(await theirs.result(), expected);
      if (!(deviation <= tolerance[dtype])) throw new Error(`its result is ${deviation} from ours`);
      await ours.run(1);
      const times = Math.max(1, Math.min(mostProducts, Math.round(waitMs / (await timeOnce(() => ours.run(1))))));
      const timings = await timeInTurn([() => ours.run(times), () => theirs.run(times)]);
      const [ourFigures, theirFigures] = timings.map(({ median, p90, runs }) => ({
        median: median / times,
        p90: p90 / times,
        runs,
        gflops: (2 * rows * inputs * outputs * times) / median / 1e6,
      }));
      const device = deviceName(backend.description);
      report({ ...about, peer: 'ours', device, ...threadsOf(backend.description), ...ourFigures });
      report({ ...about, ...peer, ...theirFigures, deviation, ...noted });
    } catch (error) {
      report({ ...about, ...peer, note: `${note ? `${note}: ` : ''}failed, ${(error as Error).message}` });
    }
  }
}

/** In units of the largest expected number; NaN where any is. */
function largestDeviation(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) throw new Error(`it has ${actual.length} numbers, not ${expected.length}`);
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs(actual[i]! - expected[i]!));
    largest = Math.max(largest, Math.abs(expected[i]!));
  }
  return difference / largest;
}

/** Threads that a peer is given on the processor: as many as there are cores. */
export const peerThreads = cpus().length;
