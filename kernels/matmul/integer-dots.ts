import { type DType, isQuantised, quantBlock, type Scalars } from '../contract.ts';
import { type FunctionBuilder, type ModuleBuilder, range } from '../wasm/function.ts';
import { type KernelFrame, type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { f16ToF32x4, sumOfLanes } from '../wasm/mathematics.ts';
import { Address, F32, I32 } from '../wasm/scalars.ts';
import { tileColumns } from '../wasm/tile.ts';
import { F32x4, I16x8, I32x4 } from '../wasm/vectors.ts';
import { mostRows } from './dots.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { roundingError, roundTo16Bits, sumOfBlock } from './integers.ts';
import { defineFinish } from './panels.ts';
import { hasMinima, openBlocks } from './weight-rows.ts';

/** Numbers that an instruction multiplies. */
const step = 8;

/** Bytes of a block of a row of `x`: its numbers, 16 bits each, and for weights with minima their sum. */
const blockBytesOf = (dtype: DType): number => 2 * quantBlock + (hasMinima(dtype) ? 4 : 0);
/** Bytes of a row of `x`: its blocks, and its scale. */
const rowBytesOf = (inputs: I32, dtype: DType): I32 => inputs.div(quantBlock).mul(blockBytesOf(dtype)).add(4);

/** Few rows on quantised weights, in whole numbers as `integers` has them: a block's weights are used as they lie. */
export const integerDots = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WasmVariant<MatmulTensors, S> =>
  wasmVariant(operation, {
    name: 'integer dots',
    fits: ({ rows }, { weight }) => isQuantised(weight) && rows <= mostRows,
    specialise: ({ rows }) => ({ rows }),
    scratch: ({ rows, inputs }, { weight }) => ({
      shared: rows * ((inputs / quantBlock) * blockBytesOf(weight) + 4),
      own: 4 * rows * tileColumns,
    }),
    tolerance: operation.tolerance + roundingError,
    stages: [
      {
        units: ({ rows }) => rows,
        emit: (_, main, { dtypes }) => main((kernel) => roundRows(kernel, dtypes.weight)),
      },
      {
        units: ({ block }) => Math.ceil(block / tileColumns),
        emit(module, main, { constants, dtypes }) {
          const multiply = defineMultiply(module, constants.rows!, dtypes.weight);
          const finish = defineFinish(module, epilogue.wasm);
          main((kernel) => {
            const { f, scratch } = kernel;
            const [weight, out] = [kernel.tensor('weight'), kernel.tensor('out')];
            const [inputs, block, outputs] = (['inputs', 'block', 'outputs'] as const).map((d) => kernel.size(d));
            const first = kernel.size(operation.splits!.offset);
            kernel.eachUnit((unit) => {
              const column = f.let(unit.mul(tileColumns));
              f.call(multiply, kernel.sharedScratch, weight, column, block!, inputs!, scratch);
              const to = out.add(first.add(column).div(epilogue.wasm.columns).shl(2));
              f.call(finish, scratch, to, outputs!.shl(2), constants.rows!, block!.sub(column));
            });
          });
        },
      },
    ],
  });

/** A unit is a row of `x`. Beside q4 the even numbers of sixteen come before the odd ones, as halves of its bytes do. */
function roundRows<S extends Scalars>(kernel: KernelFrame<MatmulTensors, S>, dtype: DType): void {
  const { f } = kernel;
  const [x, inputs] = [kernel.tensor('x'), kernel.size('inputs')];
  const rowBytes = f.let(inputs.shl(2));
  kernel.eachUnit((row) => {
    const to = f.let(kernel.sharedScratch.add(row.mul(rowBytesOf(inputs, dtype))));
    const scale = roundTo16Bits(f, f.let(x.add(row.mul(rowBytes))), rowBytes, (fours) => {
      const ordered = dtype === 'q4' ? evenAndOdd(f, fours) : fours;
      for (const i of range(quantBlock / step)) {
        f.store(to, ordered[2 * i]!.narrow(ordered[2 * i + 1]!), 2 * step * i);
      }
      if (hasMinima(dtype)) f.store(to, sumOfBlock(f, fours), 2 * quantBlock);
      f.advance(to, blockBytesOf(dtype));
    });
    f.store(to, scale);
  });
}

/** Of every sixteen numbers the even ones, then the odd ones. */
const evenAndOdd = (f: FunctionBuilder, fours: readonly I32x4[]): I32x4[] =>
  range(fours.length / 4).flatMap((i) => {
    const [a, b, c, d] = fours.slice(4 * i) as [I32x4, I32x4, I32x4, I32x4];
    return [0, 1].flatMap((odd) => {
      const lanes = [odd, odd + 2, odd + 4, odd + 6] as const;
      return [f.let(a.shuffle(b, lanes)), f.let(c.shuffle(d, lanes))];
    });
  });

/** The numbers of eight bytes, eight by eight: one of q8 each, two of q4. */
function numbersOf(f: FunctionBuilder, dtype: DType, at: Address): I16x8[] {
  if (dtype === 'q8') return [f.let(I16x8.load8x8(at))];
  const bytes = f.let(I16x8.loadUnsigned8x8(at));
  return [f.let(bytes.and(I16x8.const(0xf))), f.let(bytes.shr(4))];
}

/** `multiply(x, weight, column, columns, inputs, sums)`: eight columns, some at a time so that all sums have registers. */
function defineMultiply(module: ModuleBuilder, rows: number, dtype: DType) {
  const together = rows <= 2 ? 4 : 2;
  return module.define([Address, Address, I32, I32, I32, Address], (f, [x, weight, column, columns, inputs, to]) => {
    const stored = openBlocks(f, dtype, { weight, rows: columns, inputs });
    const xRows = range(rows).map((r) => f.let(x.add(rowBytesOf(inputs, dtype).mul(r))));
    f.for(0, tileColumns, together, (first) => {
      const own = range(together).map((c) => stored.of(column.add(first).add(c)));
      const quants = own.map((each) => each.quants);
      const numbers = xRows.map((row) => f.let<Address>(row));
      const sums = numbers.map(() => quants.map(() => f.let(F32x4.const(0))));
      f.for(0, stored.blocks, 1, () => {
        const whole = sums.map((row) => row.map(() => f.let(I32x4.const(0))));
        f.for(0, stored.blockBytes, 8, () => {
          const weights = quants.map((at) => numbersOf(f, dtype, at));
          const eights = weights[0]!.length;
          numbers.forEach((at, r) => {
            for (const i of range(eights)) {
              const a = f.let(I16x8.load(at, 2 * step * i));
              for (const [c, sum] of whole[r]!.entries()) f.set(sum, sum.add(I32x4.dot(a, weights[c]![i]!)));
            }
            f.advance(at, 2 * step * eights);
          });
          for (const at of quants) f.advance(at, 8);
        });
        const parameterOf = (at: Address, which: number) =>
          f.let(f16ToF32x4(f, I32x4.splat(I32.load16Signed(at, 2 * which))));
        own.forEach(({ parameters }, c) => {
          const scale = parameterOf(parameters, 0);
          const minimum = hasMinima(dtype) ? parameterOf(parameters, 1) : undefined;
          for (const [r, row] of sums.entries()) {
            f.set(row[c]!, row[c]!.add(whole[r]![c]!.toF32x4().mul(scale)));
            if (minimum) f.set(row[c]!, row[c]!.add(F32x4.loadOne(numbers[r]!).mul(minimum)));
          }
          f.advance(parameters, stored.parameterBytes);
        });
        if (hasMinima(dtype)) for (const at of numbers) f.advance(at, 4);
      });
      // The scale of a row stands behind its numbers, where its address has come to.
      sums.forEach((row, r) => {
        const scale = f.let(F32.load(numbers[r]!));
        for (const [c, sum] of row.entries()) {
          f.store(to.add(first.shl(2)), sumOfLanes(f, sum).mul(scale), 4 * (r * tileColumns + c));
        }
      });
    });
  });
}
