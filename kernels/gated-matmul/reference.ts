import type { Reference } from '../cpu.ts';
import type { gatedMatmul } from './index.ts';

type Contract = typeof gatedMatmul;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { x, weight, out },
  { rows, inputs, block, outputs },
  { firstColumn },
) => {
  for (let row = 0; row < rows; row++) {
    for (let j = 0; j < block; j += 2) {
      let gate = 0;
      let up = 0;
      for (let i = 0; i < inputs; i++) {
        gate += x[row * inputs + i]! * weight[j * inputs + i]!;
        up += x[row * inputs + i]! * weight[(j + 1) * inputs + i]!;
      }
      out[row * outputs + (firstColumn + j) / 2] = (gate / (1 + Math.exp(-gate))) * up;
    }
  }
};
