import { simpleKernel } from '../wasm/kernel.ts';
import { eachQuad } from '../wasm/mathematics.ts';
import { type Address, I32 } from '../wasm/scalars.ts';
import { ropeAndCache } from './index.ts';

/** A unit is a token. */
const simd = simpleKernel(
  ropeAndCache,
  ({ tokens }) => tokens,
  (kernel, token) => {
    const { f } = kernel;
    const [half, headDim] = [kernel.size('half'), kernel.size('headDim')];
    const [heads, keyValueHeads] = [kernel.size('heads'), kernel.size('keyValueHeads')];
    const word = (name: 'positions' | 'slots') => I32.load(kernel.tensor(name).add(token.shl(2)));
    const angles = f.let(word('positions').mul(half).shl(2));
    const [cos, sin] = [f.let(kernel.tensor('cos').add(angles)), f.let(kernel.tensor('sin').add(angles))];
    const headBytes = f.let(headDim.shl(2));
    const halfBytes = half.shl(2);
    const turn = (from: Address, count: I32, to: Address) =>
      f.for(0, count.mul(headBytes), headBytes, (head) => {
        const [a, b] = [f.let(from.add(head)), f.let(from.add(head).add(halfBytes))];
        const [c, d] = [f.let(to.add(head)), f.let(to.add(head).add(halfBytes))];
        eachQuad(f, half, (load, store) => {
          store(
            c,
            load(a)
              .mul(load(cos))
              .sub(load(b).mul(load(sin))),
          );
          store(
            d,
            load(b)
              .mul(load(cos))
              .add(load(a).mul(load(sin))),
          );
        });
      });

    const queries = f.let(kernel.tensor('projections').add(token.mul(kernel.size('width')).shl(2)));
    turn(queries, heads, kernel.tensor('queries').add(token.mul(heads).mul(headBytes)));
    const slot = f.let(word('slots'));
    f.if(slot.lt(kernel.size('capacity')), () => {
      const keptBytes = f.let(keyValueHeads.mul(headBytes));
      const keys = f.let(queries.add(heads.mul(headBytes)));
      const values = f.let(keys.add(keptBytes));
      turn(keys, keyValueHeads, kernel.tensor('keys').add(slot.mul(keptBytes)));
      const to = f.let(kernel.tensor('values').add(slot.mul(keptBytes)));
      eachQuad(f, keyValueHeads.mul(headDim), (load, store) => store(to, load(values)));
    });
  },
);

export const variants = [simd];
