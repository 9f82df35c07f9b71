import { openRow } from '../matmul/weight-rows.ts';
import { simpleKernel } from '../wasm/kernel.ts';
import { I32 } from '../wasm/scalars.ts';
import { embedding } from './index.ts';

/** A unit is a token. */
const simd = simpleKernel(
  embedding,
  ({ tokens }) => tokens,
  (kernel, token, { dtypes }) => {
    const { f } = kernel;
    const [block, hidden] = [kernel.size('block'), kernel.size('hidden')];
    // An id before the block is a large number once the block's first is taken off.
    const row = f.let(I32.load(kernel.tensor('ids').add(token.shl(2))).sub(kernel.size('firstId')));
    f.if(row.lt(block), () => {
      const from = openRow(f, dtypes.table, { weight: kernel.tensor('table'), row, rows: block, inputs: hidden });
      const to = f.let(kernel.tensor('out').add(token.mul(hidden).shl(2)));
      const whole = f.let(hidden.and(-4));
      f.for(0, whole, 4, (i) => f.store(to.add(i.shl(2)), from.quad(i)));
      f.for(whole, hidden, 1, (i) => f.store(to.add(i.shl(2)), from.one(i)));
    });
  },
);

export const variants = [simd];
