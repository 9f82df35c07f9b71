import type { FunctionBuilder } from '../wasm/function.ts';
import { simpleKernel } from '../wasm/kernel.ts';
import { f32ToF16 } from '../wasm/mathematics.ts';
import { F32, type I32 } from '../wasm/scalars.ts';
import { randomNormal } from './index.ts';

/** PCG's output function over one step of its generator. */
function pcg(f: FunctionBuilder, value: I32): I32 {
  const state = f.let(value.mul(747_796_405).add(2_891_336_453));
  const word = f.let(state.shr(state.shr(28).add(4)).xor(state).mul(277_803_737));
  return f.let(word.shr(22).xor(word));
}

const halves = (word: I32): I32 => word.and(0xffff).add(word.shr(16));

/** A unit is a row. */
const scalar = simpleKernel(
  randomNormal,
  ({ block }) => block,
  (kernel, row, { dtypes }) => {
    const { f } = kernel;
    const width = kernel.size('width');
    const [mean, deviation] = [kernel.number('mean'), kernel.number('deviation')];
    const key = pcg(f, kernel.size('seed'));
    const place = f.let(kernel.size('firstRow').add(row).mul(width));
    const bytes = dtypes.out === 'f16' ? 2 : 4;
    const out = f.let(kernel.tensor('out').add(row.mul(width).mul(bytes)));
    f.for(0, width, 1, (i) => {
      const first = pcg(f, place.add(i).xor(key));
      const second = pcg(f, first.add(key));
      const deviations = halves(first).add(halves(second)).sub(131_070).toF32Signed();
      const scaled = deviations.mul(F32.const(1 / Math.sqrt((2 ** 32 - 1) / 3)));
      const number = f.let(mean.add(deviation.mul(scaled)));
      const to = out.add(i.mul(bytes));
      if (dtypes.out === 'f16') f.store16(to, f32ToF16(f, number));
      else f.store(to, number);
    });
  },
);

export const variants = [scalar];
