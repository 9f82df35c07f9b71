import { simpleKernel } from '../wasm/kernel.ts';
import { eachQuad } from '../wasm/mathematics.ts';
import { I32 } from '../wasm/scalars.ts';
import { gatherRows } from './index.ts';

/** A unit is a picked row. */
const simd = simpleKernel(
  gatherRows,
  ({ picks }) => picks,
  (kernel, pick) => {
    const { f } = kernel;
    const width = kernel.size('width');
    const row = I32.load(kernel.tensor('rows').add(pick.shl(2)));
    const from = f.let(kernel.tensor('x').add(row.mul(width).shl(2)));
    const to = f.let(kernel.tensor('out').add(pick.mul(width).shl(2)));
    eachQuad(f, width, (load, store) => store(to, load(from)));
  },
);

export const variants = [simd];
