import { simpleKernel } from '../wasm/kernel.ts';
import { eachQuad } from '../wasm/mathematics.ts';
import { addBias } from './index.ts';

/** A unit is a row. */
const simd = simpleKernel(
  addBias,
  ({ rows }) => rows,
  (kernel, row) => {
    const { f } = kernel;
    const [bias, width] = [kernel.tensor('bias'), kernel.size('width')];
    const out = f.let(kernel.tensor('out').add(row.mul(width).shl(2)));
    eachQuad(f, width, (load, store) => store(out, load(out).add(load(bias))));
  },
);

export const variants = [simd];
