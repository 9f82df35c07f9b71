import type { Reference } from '../cpu.ts';
import type { matmulAdd } from './index.ts';

type Contract = typeof matmulAdd;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { x, weight, out },
  { rows, inputs, block, outputs },
  { firstOutput },
) => {
  for (let row = 0; row < rows; row++) {
    for (let j = 0; j < block; j++) {
      let sum = 0;
      for (let i = 0; i < inputs; i++) sum += x[row * inputs + i]! * weight[j * inputs + i]!;
      out[row * outputs + firstOutput + j]! += sum;
    }
  }
};
