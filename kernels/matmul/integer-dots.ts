import { quantBlock, type Scalars } from '../contract.ts';
import { type ModuleBuilder, range } from '../wasm/function.ts';
import { type KernelFrame, type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { f16ToF32x4, sumOfLanes } from '../wasm/mathematics.ts';
import { Address, F32, I32 } from '../wasm/scalars.ts';
import { tileColumns } from '../wasm/tile.ts';
import { F32x4, I16x8, I32x4 } from '../wasm/vectors.ts';
import { mostRows } from './dots.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { quantiseRow, roundingError } from './integers.ts';
import { defineFinish } from './panels.ts';

/** Numbers that an instruction multiplies. */
const step = 8;

/** Bytes of a row of `x`: its numbers, 16 bits each, and its scale. */
const rowBytesOf = (inputs: I32): I32 => inputs.shl(1).add(4);

/** Few rows on q8 weights, in whole numbers as `integers` has them: a block's weights are used as they lie. */
export const integerDots = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WasmVariant<MatmulTensors, S> =>
  wasmVariant(operation, {
    name: 'integer dots',
    fits: ({ rows }, { weight }) => weight === 'q8' && rows <= mostRows,
    specialise: ({ rows }) => ({ rows }),
    scratch: ({ rows, inputs }) => ({ shared: rows * (2 * inputs + 4), own: 4 * rows * tileColumns }),
    tolerance: operation.tolerance + roundingError,
    stages: [
      { units: ({ rows }) => rows, emit: (_, main) => main(quantiseRows) },
      {
        units: ({ block }) => Math.ceil(block / tileColumns),
        emit(module, main, { constants }) {
          const multiply = defineMultiply(module, constants.rows!);
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

/** A unit is a row of `x`. */
function quantiseRows<S extends Scalars>(kernel: KernelFrame<MatmulTensors, S>): void {
  const { f } = kernel;
  const [x, inputs] = [kernel.tensor('x'), kernel.size('inputs')];
  const rowBytes = f.let(inputs.shl(2));
  kernel.eachUnit((row) => {
    const to = f.let(kernel.sharedScratch.add(row.mul(rowBytesOf(inputs))));
    const scale = quantiseRow(f, f.let(x.add(row.mul(rowBytes))), rowBytes, (first, second) => {
      f.store(to, first);
      f.store(to, second, 4);
      f.advance(to, step);
    });
    f.store(to, scale);
  });
}

/** `multiply(x, weight, column, columns, inputs, sums)`: eight columns, some at a time so that all sums have registers. */
function defineMultiply(module: ModuleBuilder, rows: number) {
  const together = rows <= 2 ? 4 : 2;
  return module.define([Address, Address, I32, I32, I32, Address], (f, [x, weight, column, columns, inputs, to]) => {
    const blocks = f.let(inputs.div(quantBlock));
    const parameters = f.let(weight.add(columns.mul(inputs)));
    const xRows = range(rows).map((r) => f.let(x.add(rowBytesOf(inputs).mul(r))));
    f.for(0, tileColumns, together, (first) => {
      const weightRows = range(together).map((c) => f.let(column.add(first).add(c).min(columns.sub(1))));
      const quants = weightRows.map((row) => f.let(weight.add(row.mul(inputs))));
      const scales = weightRows.map((row) => f.let(parameters.add(row.mul(blocks).shl(1))));
      const numbers = xRows.map((row) => f.let<Address>(row));
      const sums = numbers.map(() => quants.map(() => f.let(F32x4.const(0))));
      f.for(0, blocks, 1, () => {
        const whole = sums.map((row) => row.map(() => f.let(I32x4.const(0))));
        f.for(0, quantBlock, step, () => {
          const weights = quants.map((at) => f.let(I16x8.load8x8(at)));
          numbers.forEach((at, r) => {
            const a = f.let(I16x8.load(at));
            for (const [c, sum] of whole[r]!.entries()) f.set(sum, sum.add(I32x4.dot(a, weights[c]!)));
            f.advance(at, 2 * step);
          });
          for (const at of quants) f.advance(at, step);
        });
        scales.forEach((at, c) => {
          const scale = f.let(f16ToF32x4(f, I32x4.splat(I32.load16Signed(at))));
          for (const [r, row] of sums.entries()) {
            f.set(row[c]!, row[c]!.add(whole[r]![c]!.toF32x4().mul(scale)));
          }
          f.advance(at, 2);
        });
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
