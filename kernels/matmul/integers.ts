import { quantBlock, type Scalars } from '../contract.ts';
import { type FunctionBuilder, type ModuleBuilder, range } from '../wasm/function.ts';
import { type KernelFrame, type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { f16ToF32, largestLane, transpose } from '../wasm/mathematics.ts';
import { Address, F32, I32 } from '../wasm/scalars.ts';
import { columnBytes, notUnrolled, storeTile, tileColumns, tileOf } from '../wasm/tile.ts';
import { F32x4, I16x8, I32x4 } from '../wasm/vectors.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { defineFinish } from './panels.ts';

const tileRows = 5;

/**
 * A row of `x` becomes whole numbers of this magnitude at most. With quants of 128 a block of 32 products sums up to
 * 1.3e8 at most, far within 32 bits: sixteen bits cost no more than eight here, and lose next to nothing.
 */
const largest = 32_767;
/** Rounding x errs by up to 1 / 65,534 of a row's largest, some 4 deviations: 3.5e-5 of the sums' own deviation. */
export const roundingError = 6e-5;
/** Bytes of two neighbouring inputs of a row of `x`, and of eight rows of the weight. */
const pairBytes = 4;
const weightPairBytes = pairBytes * tileColumns;
const stepsPerBlock = quantBlock / 2;
const tileBytes = tileRows * columnBytes;
const divideUp = (a: number, b: number) => Math.ceil(a / b);

/** Bytes of a panel of `x`: pairs `(inputs / 2, tileRows)` of 16-bit numbers, and the scale of each row. */
const panelBytesOf = (inputs: number) => tileRows * (2 * inputs + 4);

/**
 * Many rows on q8 weights, in whole numbers: `x` is rounded to 16 bits with a scale a row, the weight stays as it is, and
 * the dot product of 16-bit pairs does two multiply-adds for each of f32. The sums of a block of 32 are exact.
 */
export const integers = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WasmVariant<MatmulTensors, S> =>
  wasmVariant(operation, {
    name: 'integers',
    fits: (_, { weight }) => weight === 'q8',
    scratch: ({ rows, inputs }) => ({
      shared: divideUp(rows, tileRows) * panelBytesOf(inputs),
      own: tileBytes + 2 * tileColumns * inputs + (inputs / quantBlock) * columnBytes,
    }),
    tolerance: operation.tolerance + roundingError,
    stages: [
      { units: ({ rows }) => divideUp(rows, tileRows), emit: (_, main) => main(quantiseRows) },
      {
        units: ({ block }) => divideUp(block, tileColumns),
        emit(module, main) {
          const pack = definePack(module);
          const multiplyTile = defineTile(module);
          const finish = defineFinish(module, epilogue.wasm);
          main((kernel) => {
            const { f, scratch } = kernel;
            const [weight, out, panels] = [kernel.tensor('weight'), kernel.tensor('out'), kernel.sharedScratch];
            const [rows, inputs] = [kernel.size('rows'), kernel.size('inputs')];
            const [block, outputs] = [kernel.size('block'), kernel.size('outputs')];
            const first = kernel.size(operation.splits!.offset);
            const outBytes = f.let(outputs.shl(2));
            const panelBytes = f.let(inputs.shl(1).add(4).mul(tileRows));
            const packed = f.let(scratch.add(tileBytes));
            kernel.eachUnit((unit) => {
              const column = f.let(unit.mul(tileColumns));
              f.call(pack, weight, column, block, inputs, packed);
              const to = f.let(out.add(first.add(column).div(epilogue.wasm.columns).shl(2)));
              const panel = f.let(panels);
              f.for(0, rows, tileRows, (row) => {
                f.call(multiplyTile, panel, packed, inputs, scratch);
                const rowsLeft = rows.sub(row).min(tileRows);
                f.call(finish, scratch, to.add(row.mul(outBytes)), outBytes, rowsLeft, block.sub(column));
                f.advance(panel, panelBytes);
              });
            });
          });
        },
      },
    ],
  });

/** A unit is a panel of `x`. */
function quantiseRows<S extends Scalars>(kernel: KernelFrame<MatmulTensors, S>): void {
  const { f } = kernel;
  const [x, rows, inputs] = [kernel.tensor('x'), kernel.size('rows'), kernel.size('inputs')];
  const rowBytes = f.let(inputs.shl(2));
  const panels = kernel.sharedScratch;
  kernel.eachUnit((unit) => {
    const panel = f.let(panels.add(unit.mul(inputs.shl(1).add(4).mul(tileRows))));
    const scales = f.let(panel.add(inputs.mul(2 * tileRows)));
    for (const r of range(tileRows)) {
      const from = f.let(x.add(unit.mul(tileRows).add(r).min(rows.sub(1)).mul(rowBytes)));
      const to = f.let(panel);
      const scale = quantiseRow(f, from, rowBytes, (first, second) => {
        f.store(to, first, pairBytes * r);
        f.store(to, second, pairBytes * (tileRows + r));
        f.advance(to, 2 * pairBytes * tileRows);
      });
      f.store(scales, scale, 4 * r);
    }
  });
}

/** Rounds a row to whole numbers of 16 bits, which `put` is given as pairs of neighbours, two at a time; returns its scale. */
export function quantiseRow(
  f: FunctionBuilder,
  from: Address,
  rowBytes: I32,
  put: (first: I32, second: I32) => void,
): F32 {
  const most = f.let(F32x4.const(0));
  f.for(0, rowBytes, 16, (i) => f.set(most, most.pmax(F32x4.load(from.add(i)).abs())));
  // A row of zeros has a scale that is no number of use, but finite.
  const magnitude = f.let(largestLane(f, most).max(F32.const(1e-30)));
  const inverse = f.let(F32x4.splat(F32.const(largest).div(magnitude)));
  f.for(0, rowBytes, 16, (i) => {
    const whole = f.let(F32x4.load(from.add(i)).mul(inverse).nearest().toI32x4());
    const pairs = f.let(whole.narrow(whole).asI32x4());
    put(pairs.lane(0), pairs.lane(1));
  });
  return magnitude.mul(F32.const(1 / largest));
}

/** `pack(weight, row, rows, inputs, to)`: eight rows of quants pair by pair, and behind them their scales block by block. */
function definePack(module: ModuleBuilder) {
  return module.define([Address, I32, I32, I32, Address], (f, [weight, row, rows, inputs, to]) => {
    const blocks = f.let(inputs.div(quantBlock));
    const scales = f.let(to.add(inputs.mul(2 * tileColumns)));
    const parameters = f.let(weight.add(rows.mul(inputs)));
    for (const half of range(tileColumns / 4)) {
      const sources = range(4).map((c) => f.let(row.add(4 * half + c).min(rows.sub(1))));
      const from = sources.map((source) => f.let(weight.add(source.mul(inputs))));
      const at = f.let(to.add(16 * half));
      f.for(0, inputs, 8, (i) => {
        // Two neighbouring inputs move as one number of 32 bits.
        const pairs = from.map((address) => I16x8.load8x8(address.add(i)).asI32x4().asF32x4());
        for (const [step, columns] of transpose(f, pairs).entries()) f.store(at, columns, weightPairBytes * step);
        f.advance(at, 4 * weightPairBytes);
      });
      for (const [c, source] of sources.entries()) {
        const parameter = f.let(parameters.add(source.mul(blocks).shl(1)));
        const scale = f.let(scales.add(16 * half + 4 * c));
        f.for(0, blocks, 1, (block) => {
          f.store(scale, f16ToF32(f, I32.load16Signed(parameter.add(block.shl(1)))));
          f.advance(scale, columnBytes);
        });
      }
    }
  });
}

/** `multiplyTile(x, weight, inputs, sums)`: the micro-kernel in whole numbers, and in f32 from block to block. */
function defineTile(module: ModuleBuilder) {
  return module.define([Address, Address, I32, Address], (f, [x, weight, inputs, to]) => {
    const sums = tileOf(f, tileRows, () => F32x4.const(0));
    const scales = f.let(weight.add(inputs.mul(2 * tileColumns)));
    const end = f.let(scales);
    f.while(weight.lt(end), () => {
      const blockEnd = f.let(weight.add(stepsPerBlock * weightPairBytes));
      const whole = sums.map((row) => row.map(() => f.let(I32x4.const(0))));
      f.while(weight.lt(blockEnd), () => {
        const quants = [0, 16].map((half) => f.let(I16x8.load(weight, half)));
        // V8 puts each row's load beside its arithmetic if the last row comes first.
        for (const r of range(tileRows).reverse()) {
          const pair = f.let(I16x8.loadSplatPair(x, pairBytes * r));
          for (const [v, sum] of whole[r]!.entries()) f.set(sum, sum.add(I32x4.dot(pair, quants[v]!)));
        }
        f.set(weight, notUnrolled(weight.add(weightPairBytes)));
        f.advance(x, pairBytes * tileRows);
      });
      sums.forEach((row, r) => {
        for (const [v, sum] of row.entries())
          f.set(sum, sum.add(whole[r]![v]!.toF32x4().mul(F32x4.load(scales, 16 * v))));
      });
      f.advance(scales, columnBytes);
    });
    // The scales of the rows stand behind their numbers.
    sums.forEach((row, r) => {
      const scale = f.let(F32x4.loadSplat(x, 4 * r));
      for (const sum of row) f.set(sum, sum.mul(scale));
    });
    storeTile(f, sums, to);
  });
}
