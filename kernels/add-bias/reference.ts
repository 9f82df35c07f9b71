import type { Reference } from '../cpu.ts';
import type { addBias } from './index.ts';

type Contract = typeof addBias;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = ({ bias, out }, { rows, width }) => {
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) out[row * width + i]! += bias[i]!;
  }
};
