import { f32, operation, u32, write } from '../contract.ts';

/**
 * Numbers that are normally distributed for the purposes of a benchmark, made where they are needed: weights of a
 * model's true size without a file of that size.
 *
 * A number is a function of the seed and of its place alone: `h` is a counter-based hash (PCG's output function;
 * Jarzynski and Olano, Hash Functions for GPU Rendering, 2020) and `s` the sum of four uniform 16-bit integers of it,
 * so everything up to the scaling is exact in integers and the same on every device. The sum (Irwin-Hall, n = 4) lies
 * within 3.47 deviations. The matrix may come in blocks of rows.
 */
export const randomNormal = operation({
  name: 'random-normal',
  formula: 'out[r, i] = mean + deviation * (s(h(seed, (firstRow + r) * width + i)) - 2^17 + 2) / sqrt((2^32 - 1) / 3)',
  tensors: { out: write(['f32', 'f16'], 'block', 'width') },
  scalars: { seed: u32(), mean: f32(0), deviation: f32(1), firstRow: u32(0) },
  splits: { tensor: 'out', offset: 'firstRow' },
  // Integer operations are not counted.
  flops: ({ block, width }) => 3 * block * width,
  cases: [
    { dims: { block: 1, width: 1 }, scalars: { seed: 1 } },
    { dims: { block: 5, width: 67 }, scalars: { seed: 0, mean: 1, deviation: 0.1 } },
    { dims: { block: 33, width: 192 }, scalars: { seed: 4_000_000_000, firstRow: 13 } },
  ],
  benchmarks: [
    { label: '1b attention', dims: { block: 2048, width: 2048 }, scalars: { seed: 1 } },
    { label: '7b attention', dims: { block: 4096, width: 4096 }, scalars: { seed: 1 } },
  ],
  // Four roundings: the scale, the two products and the sum.
  tolerance: 3e-7,
});
