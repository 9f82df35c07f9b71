import type { Reference } from '../cpu.ts';
import type { logProbabilities } from './index.ts';

type Contract = typeof logProbabilities;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { logits, ids, out },
  { rows, vocabulary, picks },
) => {
  for (let row = 0; row < rows; row++) {
    const start = row * vocabulary;
    let largest = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < vocabulary; v++) largest = Math.max(largest, logits[start + v]!);
    let sum = 0;
    for (let v = 0; v < vocabulary; v++) sum += Math.exp(logits[start + v]! - largest);
    for (let pick = row * picks; pick < (row + 1) * picks; pick++) {
      out[pick] = logits[start + ids[pick]!]! - largest - Math.log(sum);
    }
  }
};
