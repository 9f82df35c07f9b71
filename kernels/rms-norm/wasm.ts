import { simpleKernel } from '../wasm/kernel.ts';
import { eachQuad, sumOfLanes } from '../wasm/mathematics.ts';
import { F32 } from '../wasm/scalars.ts';
import { F32x4 } from '../wasm/vectors.ts';
import { rmsNorm } from './index.ts';

/** A unit is a row. */
const simd = simpleKernel(
  rmsNorm,
  ({ rows }) => rows,
  (kernel, row) => {
    const { f } = kernel;
    const hidden = kernel.size('hidden');
    const start = f.let(row.mul(hidden).shl(2));
    const [x, out] = [f.let(kernel.tensor('x').add(start)), f.let(kernel.tensor('out').add(start))];
    const weight = kernel.tensor('weight');
    const squares = f.let(F32x4.const(0));
    eachQuad(f, hidden, (load) => {
      const v = f.let(load(x));
      f.set(squares, squares.add(v.mul(v)));
    });
    const mean = sumOfLanes(f, squares).div(hidden.toF32());
    const scale = f.let(F32x4.splat(F32.const(1).div(mean.add(kernel.number('epsilon')).sqrt())));
    eachQuad(f, hidden, (load, store) => store(out, load(x).mul(scale).mul(load(weight))));
  },
);

export const variants = [simd];
