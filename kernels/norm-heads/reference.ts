import type { Reference } from '../cpu.ts';
import type { normHeads } from './index.ts';

type Contract = typeof normHeads;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { queryNorm, keyNorm, projections: x },
  { tokens, width, headDim },
  { heads, keyValueHeads, epsilon },
) => {
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads + keyValueHeads; head++) {
      const weight = head < heads ? queryNorm : keyNorm;
      const start = token * width + head * headDim;
      let sumOfSquares = 0;
      for (let i = 0; i < headDim; i++) sumOfSquares += x[start + i]! ** 2;
      const scale = 1 / Math.sqrt(sumOfSquares / headDim + epsilon);
      for (let i = 0; i < headDim; i++) x[start + i] = x[start + i]! * scale * weight[i]!;
    }
  }
};
