import { quantBlock, type Scalars } from '../contract.ts';
import { type FunctionBuilder, range } from '../wasm/function.ts';
import type { WasmVariant } from '../wasm/kernel.ts';
import { largestLane, nearestInteger, sumOfLanes, transpose, zeroOrNaN } from '../wasm/mathematics.ts';
import { type Address, F32, type I32 } from '../wasm/scalars.ts';
import { columnBytes } from '../wasm/tile.ts';
import { F32x4, I16x8, I32x4 } from '../wasm/vectors.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { type Rounding, roundedPanels, stepStride } from './rounded-panels.ts';

/**
 * A row of `x` becomes whole numbers of this magnitude at most. With quants of 128 a block of 32 products sums up to
 * 1.3e8 at most, far within 32 bits: sixteen bits cost no more than eight here, and lose next to nothing.
 */
const largest = 32_767;
/** Rounding x errs by up to 1 / 65,534 of a row's largest, some 4 deviations: 3.5e-5 of the sums' own deviation. */
export const roundingError = 6e-5;

/** `x` in 16 bits with a scale a row, the weight as it is: the dot product of pairs does two multiply-adds for each of f32. */
const rounding: Rounding = {
  name: 'integers',
  approximate: false,
  needs: [],
  leastRows: 1,
  tolerance: () => roundingError,
  steps: quantBlock / 2,
  scaledBlocks: false,
  zero: 0,
  roundRow(f, from, rowBytes, start, isSummed) {
    const to = f.let(start);
    const scale = roundTo16Bits(f, from, rowBytes, (fours) => {
      for (const four of fours) {
        const pairs = f.let(four.narrow(four).asI32x4());
        for (const lane of [0, 1]) f.store(to, pairs.lane(lane), stepStride * lane);
        f.advance(to, 2 * stepStride);
      }
      if (!isSummed) return;
      f.store(to, sumOfBlock(f, fours));
      f.advance(to, stepStride);
    });
    f.store(to, scale);
  },
  // Two neighbouring inputs move as one number of 32 bits.
  packBlock: {
    q8(f, rows, to) {
      for (const i of range(quantBlock / 8)) {
        const pairs = rows.map((row) => I16x8.load8x8(row, 8 * i).asI32x4());
        for (const [j, step] of transpose(f, pairs).entries()) f.store(to, step, columnBytes * (4 * i + j));
      }
    },
    q4(f, rows, to) {
      for (const i of range(quantBlock / 16)) {
        const bytes = rows.map((row) => f.let(I16x8.loadUnsigned8x8(row, 8 * i)));
        const fours = [
          bytes.map((eight) => eight.extendLowUnsigned()),
          bytes.map((eight) => eight.extendHighUnsigned()),
        ];
        for (const [half, four] of fours.entries()) {
          // A byte is such a pair: its upper half moves on.
          const pairs = four.map((byte) => {
            const pair = f.let(byte);
            return pair.or(pair.shl(12)).and(I32x4.const(0x000f_000f));
          });
          for (const [j, step] of transpose(f, pairs).entries()) {
            f.store(to, step, columnBytes * (8 * i + 4 * half + j));
          }
        }
      }
    },
  },
  products: () => (x, weights) => I32x4.dot(x.asI16x8(), weights.asI16x8()),
};

/** Many rows on q8 or q4 weights, as exact as f32 for all that matters. */
export const integers = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WasmVariant<MatmulTensors, S> => roundedPanels(operation, epilogue, rounding);

/** Rounds a row of whole blocks to numbers of 16 bits, which `put` is given a block at a time; returns their scale. */
export function roundTo16Bits(
  f: FunctionBuilder,
  from: Address,
  rowBytes: I32,
  put: (fours: readonly I32x4[]) => void,
): F32 {
  const most = f.let(F32x4.const(0));
  const sum = f.let(F32x4.const(0));
  f.for(0, rowBytes, 16, (i) => {
    const four = f.let(F32x4.load(from.add(i)));
    f.set(most, most.pmax(four.abs()));
    f.set(sum, sum.add(four));
  });
  // A row of zeros has a scale that is no number of use, but finite.
  const magnitude = f.let(largestLane(f, most).max(F32.const(1e-30)));
  const inverse = f.let(F32x4.splat(F32.const(largest).div(magnitude)));
  f.for(0, rowBytes, 4 * quantBlock, (i) => {
    const block = f.let(from.add(i));
    put(range(quantBlock / 4).map((four) => f.let(nearestInteger(F32x4.load(block, 16 * four).mul(inverse)))));
  });
  return magnitude.mul(F32.const(1 / largest)).add(zeroOrNaN(f, sum));
}

/** Exact: 32 numbers of 16 bits are less than 2^24. */
export const sumOfBlock = (f: FunctionBuilder, fours: readonly I32x4[]): F32 =>
  sumOfLanes(f, fours.reduce((a, b) => a.add(b)).toF32x4());
