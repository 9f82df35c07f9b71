import type { Reference } from '../cpu.ts';
import type { rmsNorm } from './index.ts';

type Contract = typeof rmsNorm;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { x, weight, out },
  { rows, hidden },
  { epsilon },
) => {
  for (let row = 0; row < rows; row++) {
    const start = row * hidden;
    let sumOfSquares = 0;
    for (let i = 0; i < hidden; i++) sumOfSquares += x[start + i]! ** 2;
    const scale = 1 / Math.sqrt(sumOfSquares / hidden + epsilon);
    for (let i = 0; i < hidden; i++) out[start + i] = x[start + i]! * scale * weight[i]!;
  }
};
