import { simpleKernel } from '../wasm/kernel.ts';
import { exp, largestLane, log, sumOfLanes } from '../wasm/mathematics.ts';
import { F32, I32 } from '../wasm/scalars.ts';
import { F32x4 } from '../wasm/vectors.ts';
import { logProbabilities } from './index.ts';

/** A unit is a row. */
const simd = simpleKernel(
  logProbabilities,
  ({ rows }) => rows,
  (kernel, row) => {
    const { f } = kernel;
    const [vocabulary, picks] = [kernel.size('vocabulary'), kernel.size('picks')];
    const logits = f.let(kernel.tensor('logits').add(row.mul(vocabulary).shl(2)));
    const place = f.let(row.mul(picks).shl(2));
    const [ids, out] = [f.let(kernel.tensor('ids').add(place)), f.let(kernel.tensor('out').add(place))];

    const largests = f.let(F32x4.loadSplat(logits));
    const whole = f.let(vocabulary.and(-4).shl(2));
    f.for(0, whole, 16, (i) => f.set(largests, largests.pmax(F32x4.load(logits.add(i)))));
    f.for(whole, vocabulary.shl(2), 4, (i) => f.set(largests, largests.pmax(F32x4.loadSplat(logits.add(i)))));
    const largest = f.let(largestLane(f, largests));

    const shift = f.let(F32x4.splat(largest));
    const sums = f.let(F32x4.const(0));
    f.for(0, whole, 16, (i) => f.set(sums, sums.add(exp(f, F32x4.load(logits.add(i)).sub(shift)))));
    const sum = f.let(sumOfLanes(f, sums));
    f.for(whole, vocabulary.shl(2), 4, (i) =>
      f.set(sum, sum.add(exp(f, F32x4.loadSplat(logits.add(i)).sub(shift)).lane(0))),
    );

    // A sum that is no number has no logarithm.
    const logSum = f.let(log(f, sum).add(sum.sub(sum)));
    f.for(0, picks.shl(2), 4, (i) => {
      const logit = F32.load(logits.add(I32.load(ids.add(i)).shl(2)));
      f.store(out.add(i), logit.sub(largest).sub(logSum));
    });
  },
);

export const variants = [simd];
