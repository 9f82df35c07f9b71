import type { CpuVariant } from '../cpu.ts';
import { encodeF16 } from '../f16.ts';
import { randomNormal } from './index.ts';
import { reference } from './reference.ts';

type Contract = typeof randomNormal;

/** Row by row, encoding f16 on the way. */
export const rowwise: CpuVariant<Contract['tensors'], Contract['scalars']> = {
  kind: 'cpu',
  operation: randomNormal,
  name: 'rowwise',
  run({ out }, { block, width }, scalars, { out: dtype }) {
    const numbers = new Float32Array(width);
    for (let row = 0; row < block; row++) {
      reference({ out: numbers }, { block: 1, width }, { ...scalars, firstRow: scalars.firstRow + row });
      out.set(dtype === 'f16' ? encodeF16(numbers) : numbers, row * width);
    }
  },
};
