import type { CpuVariant } from '../cpu.ts';
import { decodeRows } from '../quantise.ts';
import { embedding } from './index.ts';

type Contract = typeof embedding;

/** Row by row, decoding on the way. */
export const rowwise: CpuVariant<Contract['tensors'], Contract['scalars']> = {
  kind: 'cpu',
  operation: embedding,
  name: 'rowwise',
  run({ table, ids, out }, { block, hidden, tokens }, { firstId }, { table: dtype }) {
    for (let token = 0; token < tokens; token++) {
      const row = ids[token]! - firstId;
      if (row < 0 || row >= block) continue;
      const target = (out as Float32Array).subarray(token * hidden, (token + 1) * hidden);
      decodeRows(table, dtype, [block, hidden], row, target);
    }
  },
};
