import { quantBlock, type Scalars } from '../contract.ts';
import { range } from '../wasm/function.ts';
import type { WasmVariant } from '../wasm/kernel.ts';
import { largestLane, nearestInteger, transpose, zeroOrNaN } from '../wasm/mathematics.ts';
import { F32 } from '../wasm/scalars.ts';
import { columnBytes } from '../wasm/tile.ts';
import { F32x4, I8x16, I16x8, I32x4 } from '../wasm/vectors.ts';
import { mostRows } from './dots.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { type Rounding, roundedPanels, stepBytes, stepStride } from './rounded-panels.ts';

/** A block of `x` becomes whole numbers of this magnitude at most. */
const largest = 63;
/** What stands for 0: the relaxed dot product is defined where one of its operands has seven bits and no sign. */
const zero = 64;

/**
 * `x` in seven bits with a scale a block, the weight as it is. The relaxed dot product adds the products of pairs of bytes
 * to 16 bits, which hold them (127 * 128 * 2 = 32,512), and a product with ones adds these in pairs to 32: sixteen
 * multiply-adds in three instructions, where 16-bit numbers take four and f32 four or eight.
 */
const rounding: Rounding = {
  name: 'int8',
  approximate: true,
  needs: ['relaxed-simd'],
  // Few rows cost what reading the weights does, and `integer dots` reads them once, in order.
  leastRows: mostRows + 1,
  // A block's step is its largest magnitude / 63: of 32 normally distributed numbers 2.4 deviations, give or take. Evenly
  // spread over a step, the error deviates by 1 / sqrt(12) of it, 1.1% of x and so of every sum. Among thousands of sums the
  // largest error is some 4.5 deviations, and of the dozens that the smallest case has, the largest sum is 2.
  tolerance: (factors) => (factors * 0.011 * 4.5) / 2,
  steps: quantBlock / 4,
  scaledBlocks: true,
  zero: zero * 0x0101_0101,
  roundRow(f, from, rowBytes, start) {
    const to = f.let(start);
    f.for(from, from.add(rowBytes), 4 * quantBlock, (at) => {
      const numbers = range(quantBlock / 4).map((i) => f.let(F32x4.load(at, 16 * i)));
      const most = numbers.map((four) => four.abs()).reduce((a, b) => a.pmax(b));
      // A block of zeros has a scale that is no number of use, but finite.
      const magnitude = f.let(largestLane(f, most).max(F32.const(1e-30)));
      const inverse = f.let(F32x4.splat(F32.const(largest).div(magnitude)));
      const whole = numbers.map((four) => nearestInteger(four.mul(inverse), zero));
      for (const half of [0, 4]) {
        const [a, b, c, d] = whole.slice(half) as [I32x4, I32x4, I32x4, I32x4];
        const steps = f.let(a.narrow(b).narrowUnsigned(c.narrow(d)).asI32x4());
        for (const lane of range(4)) f.store(to, steps.lane(lane), stepStride * (half + lane));
      }
      f.advance(to, stepStride * (quantBlock / stepBytes));
      const sum = numbers.map((four): F32x4 => four).reduce((a, b) => a.add(b));
      f.store(to, magnitude.mul(F32.const(1 / largest)).add(zeroOrNaN(f, sum)));
      f.advance(to, stepStride);
    });
  },
  packBlock: {
    q8(f, rows, to) {
      for (const i of range(quantBlock / 16)) {
        // Four neighbouring inputs move as one number of 32 bits.
        const fours = rows.map((row) => I32x4.load(row, 16 * i));
        for (const [j, step] of transpose(f, fours).entries()) f.store(to, step, columnBytes * (4 * i + j));
      }
    },
  },
  products(f) {
    const ones = f.let(I16x8.const(1));
    return (x, weights) => I32x4.dot(I8x16.relaxedDot(weights.asI8x16(), x.asI8x16()), ones);
  },
};

/** Many rows on q8 weights, with `x` rounded, too, and as coarsely: as fast as it gets, and less exact. */
export const int8 = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue): WasmVariant<MatmulTensors, S> =>
  roundedPanels(operation, epilogue, rounding);
