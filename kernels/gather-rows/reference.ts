import type { Reference } from '../cpu.ts';
import type { gatherRows } from './index.ts';

type Contract = typeof gatherRows;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = ({ x, rows, out }, { width, picks }) => {
  for (let pick = 0; pick < picks; pick++) {
    for (let i = 0; i < width; i++) out[pick * width + i] = x[rows[pick]! * width + i]!;
  }
};
