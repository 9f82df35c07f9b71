import type { Reference } from '../cpu.ts';
import type { randomNormal } from './index.ts';

type Contract = typeof randomNormal;

/** PCG's output function over one step of its generator: a bijection of 32-bit integers. */
function pcg(value: number): number {
  const state = (Math.imul(value, 747_796_405) + 2_891_336_453) >>> 0;
  const word = Math.imul((state >>> ((state >>> 28) + 4)) ^ state, 277_803_737);
  return ((word >>> 22) ^ word) >>> 0;
}

const halves = (word: number) => (word & 0xffff) + (word >>> 16);

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { out },
  { block, width },
  { seed, mean, deviation, firstRow },
) => {
  const key = pcg(seed);
  for (let i = 0; i < block * width; i++) {
    const first = pcg((firstRow * width + i) ^ key);
    const second = pcg(first + key);
    const sum = halves(first) + halves(second); // mean 2^17 - 2, variance (2^32 - 1) / 3
    out[i] = mean + (deviation * (sum - 131_070)) / Math.sqrt((2 ** 32 - 1) / 3);
  }
};
