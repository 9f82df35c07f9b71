import { type DType, divideUp, quantBlock, type Scalars } from '../contract.ts';
import type { WasmFeature } from '../wasm/features.ts';
import { type FunctionBuilder, type ModuleBuilder, range } from '../wasm/function.ts';
import { type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { f16ToF32 } from '../wasm/mathematics.ts';
import { Address, I32 } from '../wasm/scalars.ts';
import { columnBytes, multiplyAdd, notUnrolled, storeTile, tileColumns, tileOf } from '../wasm/tile.ts';
import { F32x4, I32x4 } from '../wasm/vectors.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { defineFinish, tileRows } from './panels.ts';
import { hasMinima, openBlocks } from './weight-rows.ts';

const tileBytes = tileRows * columnBytes;
/** Bytes of neighbouring inputs that are multiplied and added at once: a step of a row. */
export const stepBytes = 4;
/** Bytes from a row's step in a panel of `x` to its next. */
export const stepStride = stepBytes * tileRows;

/** Whole numbers to multiply in: how `x` and the weights become such, and the instructions for them. */
export interface Rounding {
  readonly name: string;
  readonly approximate: boolean;
  readonly needs: readonly WasmFeature[];
  /** Rows of `x` from which on it serves. */
  readonly leastRows: number;
  /** What the tolerance of an operation on so many factors grows by. */
  tolerance(factors: Epilogue['factors']): number;
  /** Steps of a block. */
  readonly steps: number;
  /** Whether each block of a row of `x` has a scale, which follows its steps; else one follows all. */
  readonly scaledBlocks: boolean;
  /** A step of the number that stands for 0 in `x`: what the products with it come to is taken off again. */
  readonly zero: number;
  /**
   * Rounds a row of `x` of `rowBytes` bytes: steps to `to` and every `stepStride` on, and where steps would be the scale,
   * after those of a block or of all, and the sum of a block where that `isSummed`.
   */
  roundRow(f: FunctionBuilder, from: Address, rowBytes: I32, to: Address, isSummed: boolean): void;
  /**
   * By the dtypes that it serves, packs a block of four rows of the weight: a vector of their steps to `to` and every
   * `columnBytes` on.
   */
  readonly packBlock: Partial<
    Readonly<Record<DType, (f: FunctionBuilder, rows: readonly Address[], to: Address) => void>>
  >;
  /** Writes what comes before the loop; the function gives the products of a step of `x`, in all lanes, with four rows'. */
  products(f: FunctionBuilder): (x: I32x4, weights: I32x4) => I32x4;
}

/** Where things lie in memory, in bytes. */
function layoutOf({ steps, scaledBlocks, zero }: Rounding, dtype: DType) {
  // A block with a minimum has besides the scaled products the minimum times the sum of x.
  const isSummed = hasMinima(dtype);
  const scales = steps * columnBytes;
  const starts = scales + columnBytes;
  const minima = starts + (zero === 0 ? 0 : columnBytes);
  return {
    isSummed,
    /** Parts of a packed block of eight rows of the weight, behind its steps; `starts` is what its sums begin with. */
    scales,
    starts,
    minima,
    packedBlock: minima + (isSummed ? columnBytes : 0),
    /** In a panel of `x`: the scale and the sum of a block stand behind its steps. */
    panelBlock: stepStride * (steps + Number(scaledBlocks) + Number(isSummed)),
    panelOnce: scaledBlocks ? 0 : stepStride,
  };
}

/**
 * Many rows on quantised weights, in whole numbers. First `x` is rounded into panels of `tileRows` rows, which all threads
 * share; then each thread packs eight rows of the weight at a time and runs every panel of `x` through them. The sums of a
 * block of 32 inputs are exact, and are scaled and added in f32.
 */
export const roundedPanels = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
  rounding: Rounding,
): WasmVariant<MatmulTensors, S> => {
  const panelBytesOf = (inputs: I32, dtype: DType) => {
    const { panelBlock, panelOnce } = layoutOf(rounding, dtype);
    return inputs.div(quantBlock).mul(panelBlock).add(panelOnce);
  };
  return wasmVariant(operation, {
    name: rounding.name,
    approximate: rounding.approximate,
    needs: rounding.needs,
    fits: ({ rows }, { weight }) => rows >= rounding.leastRows && weight in rounding.packBlock,
    scratch({ rows, inputs }, { weight }) {
      const { panelBlock, panelOnce, packedBlock } = layoutOf(rounding, weight);
      const blocks = inputs / quantBlock;
      return {
        shared: divideUp(rows, tileRows) * (blocks * panelBlock + panelOnce),
        own: tileBytes + blocks * packedBlock,
      };
    },
    tolerance: operation.tolerance + rounding.tolerance(epilogue.factors),
    stages: [
      {
        // A unit is a panel of `x`. Rows beyond the last are copies of it, of which the epilogue stores nothing.
        units: ({ rows }) => divideUp(rows, tileRows),
        emit(_, main, { dtypes }) {
          main((kernel) => {
            const { f } = kernel;
            const [x, rows, inputs] = [kernel.tensor('x'), kernel.size('rows'), kernel.size('inputs')];
            const rowBytes = f.let(inputs.shl(2));
            const panelBytes = f.let(panelBytesOf(inputs, dtypes.weight));
            const { isSummed } = layoutOf(rounding, dtypes.weight);
            kernel.eachUnit((unit) => {
              const panel = f.let(kernel.sharedScratch.add(unit.mul(panelBytes)));
              for (const r of range(tileRows)) {
                const row = unit.mul(tileRows).add(r).min(rows.sub(1));
                const from = f.let(x.add(row.mul(rowBytes)));
                rounding.roundRow(f, from, rowBytes, panel.add(stepBytes * r), isSummed);
              }
            });
          });
        },
      },
      {
        units: ({ block }) => divideUp(block, tileColumns),
        emit(module, main, { dtypes, features }) {
          const pack = definePack(module, rounding, dtypes.weight);
          const multiplyTile = defineTile(module, rounding, dtypes.weight, features.has('relaxed-simd'));
          const finish = defineFinish(module, epilogue.wasm);
          main((kernel) => {
            const { f, scratch } = kernel;
            const [weight, out, panels] = [kernel.tensor('weight'), kernel.tensor('out'), kernel.sharedScratch];
            const [rows, inputs] = [kernel.size('rows'), kernel.size('inputs')];
            const [block, outputs] = [kernel.size('block'), kernel.size('outputs')];
            const first = kernel.size(operation.splits!.offset);
            const outBytes = f.let(outputs.shl(2));
            const panelBytes = f.let(panelBytesOf(inputs, dtypes.weight));
            const { packedBlock } = layoutOf(rounding, dtypes.weight);
            const packed = f.let(scratch.add(tileBytes));
            const packedEnd = f.let(packed.add(inputs.div(quantBlock).mul(packedBlock)));
            kernel.eachUnit((unit) => {
              const column = f.let(unit.mul(tileColumns));
              f.call(pack, weight, column, block, inputs, packed);
              const to = f.let(out.add(first.add(column).div(epilogue.wasm.columns).shl(2)));
              const panel = f.let(panels);
              f.for(0, rows, tileRows, (row) => {
                f.call(multiplyTile, panel, packed, packedEnd, scratch);
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
};

/** `pack(weight, row, rows, inputs, to)`: eight rows of quants and their parameters, block by block. */
function definePack(module: ModuleBuilder, rounding: Rounding, dtype: DType) {
  const at = layoutOf(rounding, dtype);
  const packBlock = rounding.packBlock[dtype]!;
  return module.define([Address, I32, I32, I32, Address], (f, [weight, row, rows, inputs, to]) => {
    const products = rounding.products(f);
    const zero = f.let(I32x4.const(rounding.zero));
    const stored = openBlocks(f, dtype, { weight, rows, inputs });
    for (const half of range(tileColumns / 4)) {
      const own = range(4).map((c) => stored.of(row.add(4 * half + c)));
      const quants = own.map((each) => each.quants);
      const block = f.let(to.add(16 * half));
      f.for(0, stored.blocks, 1, () => {
        packBlock(f, quants, block);
        if (rounding.zero !== 0) {
          const start = f.let(I32x4.const(0));
          for (const step of range(rounding.steps)) {
            f.set(start, start.sub(products(zero, I32x4.load(block, columnBytes * step))));
          }
          f.store(block, start, at.starts);
        }
        for (const [c, { parameters }] of own.entries()) {
          f.store(block, f16ToF32(f, I32.load16Signed(parameters)), at.scales + 4 * c);
          if (at.isSummed) f.store(block, f16ToF32(f, I32.load16Signed(parameters, 2)), at.minima + 4 * c);
          f.advance(parameters, stored.parameterBytes);
        }
        for (const from of quants) f.advance(from, stored.blockBytes);
        f.advance(block, at.packedBlock);
      });
    }
  });
}

/** `multiplyTile(x, weight, end, sums)`: the micro-kernel in whole numbers, and in f32 from block to block. */
function defineTile(module: ModuleBuilder, rounding: Rounding, dtype: DType, relaxed: boolean) {
  const { scaledBlocks, steps, zero } = rounding;
  const at = layoutOf(rounding, dtype);
  const halves = range(tileColumns / 4).map((half) => 16 * half);
  return module.define([Address, Address, Address, Address], (f, [x, weight, end, to]) => {
    const products = rounding.products(f);
    const sums = tileOf(f, tileRows, () => F32x4.const(0));
    f.while(weight.lt(end), () => {
      const blockEnd = f.let(weight.add(at.scales));
      const starts = halves.map((half) => f.let(zero === 0 ? I32x4.const(0) : I32x4.load(weight, at.starts + half)));
      const whole = sums.map((row) => row.map((_, v) => f.let<I32x4>(starts[v]!)));
      f.while(weight.lt(blockEnd), () => {
        const weights = halves.map((half) => f.let(I32x4.load(weight, half)));
        // V8 puts each row's load beside its arithmetic if the last row comes first.
        for (const r of range(tileRows).reverse()) {
          const step = f.let(I32x4.loadSplat(x, stepBytes * r));
          for (const [v, sum] of whole[r]!.entries()) f.set(sum, sum.add(products(step, weights[v]!)));
        }
        f.set(weight, notUnrolled(weight.add(columnBytes)));
        f.advance(x, stepStride);
      });
      const scales = halves.map((half) => f.let(F32x4.load(weight, half)));
      const minima = at.isSummed ? halves.map((half) => f.let(F32x4.load(weight, at.minima - at.scales + half))) : [];
      sums.forEach((row, r) => {
        const ownScale = scaledBlocks ? f.let(F32x4.loadSplat(x, stepBytes * r)) : undefined;
        const ownSum = at.isSummed
          ? f.let(F32x4.loadSplat(x, at.panelBlock - stepStride * (steps + 1) + stepBytes * r))
          : undefined;
        for (const [v, sum] of row.entries()) {
          const scale = ownScale ? ownScale.mul(scales[v]!) : scales[v]!;
          f.set(sum, multiplyAdd(whole[r]![v]!.toF32x4(), scale, sum, relaxed));
          if (ownSum) f.set(sum, multiplyAdd(ownSum, minima[v]!, sum, relaxed));
        }
      });
      f.advance(weight, at.packedBlock - at.scales);
      f.advance(x, at.panelBlock - stepStride * steps);
    });
    if (!scaledBlocks) {
      sums.forEach((row, r) => {
        const scale = f.let(F32x4.loadSplat(x, stepBytes * r));
        for (const sum of row) f.set(sum, sum.mul(scale));
      });
    }
    storeTile(f, sums, to);
  });
}
