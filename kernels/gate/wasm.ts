import { gate as ending } from '../matmul/epilogue.ts';
import { simpleKernel } from '../wasm/kernel.ts';
import { F32x4 } from '../wasm/vectors.ts';
import { gate } from './index.ts';

/** A unit is a row; what becomes of its pairs is what `gated-matmul` does with its sums. */
const simd = simpleKernel(
  gate,
  ({ rows }) => rows,
  (kernel, row) => {
    const { f } = kernel;
    const width = kernel.size('width');
    const out = f.let(kernel.tensor('out').add(row.mul(width).shl(2)));
    const x = f.let(kernel.tensor('x').add(row.mul(width).shl(3)));
    const whole = f.let(width.and(-4));
    f.for(0, whole, 4, (i) => {
      const pairs = f.let(x.add(i.shl(3)));
      ending.wasm.eight(f, out.add(i.shl(2)), f.let(F32x4.load(pairs)), f.let(F32x4.load(pairs, 16)));
    });
    f.for(whole, width, 1, (i) => ending.wasm.one(f, out.add(i.shl(2)), x.add(i.shl(3))));
  },
);

export const variants = [simd];
