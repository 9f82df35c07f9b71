import { simpleKernel } from '../wasm/kernel.ts';
import { eachQuad, sumOfLanes } from '../wasm/mathematics.ts';
import { type Address, F32, type I32 } from '../wasm/scalars.ts';
import { F32x4 } from '../wasm/vectors.ts';
import { normHeads } from './index.ts';

/** A unit is a token. */
const simd = simpleKernel(
  normHeads,
  ({ tokens }) => tokens,
  (kernel, token) => {
    const { f } = kernel;
    const [headDim, epsilon] = [kernel.size('headDim'), kernel.number('epsilon')];
    const headBytes = f.let(headDim.shl(2));
    const head = f.let(kernel.tensor('projections').add(token.mul(kernel.size('width')).shl(2)));
    const normalise = (count: I32, weight: Address) =>
      f.for(0, count, 1, () => {
        const squares = f.let(F32x4.const(0));
        eachQuad(f, headDim, (load) => {
          const v = f.let(load(head));
          f.set(squares, squares.add(v.mul(v)));
        });
        const mean = sumOfLanes(f, squares).div(headDim.toF32());
        const scale = f.let(F32x4.splat(F32.const(1).div(mean.add(epsilon).sqrt())));
        eachQuad(f, headDim, (load, store) => store(head, load(head).mul(scale).mul(load(weight))));
        f.advance(head, headBytes);
      });
    normalise(kernel.size('heads'), kernel.tensor('queryNorm'));
    normalise(kernel.size('keyValueHeads'), kernel.tensor('keyNorm'));
  },
);

export const variants = [simd];
