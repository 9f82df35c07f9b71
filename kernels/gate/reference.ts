import type { Reference } from '../cpu.ts';
import type { gate } from './index.ts';

type Contract = typeof gate;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = ({ x, out }, { rows, width }) => {
  for (let i = 0; i < rows * width; i++) {
    const [gate, up] = [x[2 * i]!, x[2 * i + 1]!];
    out[i] = (gate / (1 + Math.exp(-gate))) * up;
  }
};
