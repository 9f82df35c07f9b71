import type { Reference } from '../cpu.ts';
import type { embedding } from './index.ts';

type Contract = typeof embedding;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { table, ids, out },
  { block, hidden, tokens },
  { firstId },
) => {
  for (let token = 0; token < tokens; token++) {
    const row = ids[token]! - firstId;
    if (row < 0 || row >= block) continue;
    for (let i = 0; i < hidden; i++) out[token * hidden + i] = table[row * hidden + i]!;
  }
};
