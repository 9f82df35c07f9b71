import type { Scalars } from '../contract.ts';
import { type ModuleBuilder, range } from '../wasm/function.ts';
import { type Target, type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { sumOfLanes } from '../wasm/mathematics.ts';
import { Address, I32 } from '../wasm/scalars.ts';
import { tileColumns } from '../wasm/tile.ts';
import { F32x4 } from '../wasm/vectors.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { defineFinish } from './panels.ts';
import { openRow, type WeightRow } from './weight-rows.ts';

/** Beyond these, rearranging the weight pays. */
export const mostRows = 4;
const tileBytes = 4 * mostRows * tileColumns;

/** Few rows, as in decoding: what counts is to read the weight once, in the order in which it lies. */
export const dots = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue): WasmVariant<MatmulTensors, S> =>
  wasmVariant(operation, {
    name: 'dots',
    fits: ({ rows }) => rows <= mostRows,
    specialise: ({ rows }) => ({ rows }),
    scratch: () => ({ shared: 0, own: tileBytes }),
    stages: [
      {
        units: ({ block }) => Math.ceil(block / tileColumns),
        emit(module, main, target) {
          const multiply = defineDots(module, target);
          const finish = defineFinish(module, epilogue.wasm);
          main((kernel) => {
            const { f, scratch } = kernel;
            const [x, weight, out] = [kernel.tensor('x'), kernel.tensor('weight'), kernel.tensor('out')];
            const [inputs, block, outputs] = (['inputs', 'block', 'outputs'] as const).map((d) => kernel.size(d));
            const first = kernel.size(operation.splits!.offset);
            kernel.eachUnit((unit) => {
              const column = f.let(unit.mul(tileColumns));
              f.call(multiply, x, weight, column, block!, inputs!, scratch);
              const to = out.add(first.add(column).div(epilogue.wasm.columns).shl(2));
              f.call(finish, scratch, to, outputs!.shl(2), target.constants.rows!, block!.sub(column));
            });
          });
        },
      },
    ],
  });

/** `multiply(x, weight, column, columns, inputs, sums)`: eight columns, some at a time so that all sums have registers. */
function defineDots(module: ModuleBuilder, { constants, dtypes }: Target<MatmulTensors>) {
  const rows = range(constants.rows!);
  const together = rows.length <= 2 ? 4 : 2;
  return module.define([Address, Address, I32, I32, I32, Address], (f, [x, weight, column, columns, inputs, to]) => {
    const xRows = rows.map((r) => f.let(x.add(inputs.shl(2).mul(r))));
    const whole = f.let(inputs.and(-4));
    f.for(0, tileColumns, together, (first) => {
      const open = range(together).map((c) => {
        const row = f.let(column.add(first).add(c).min(columns.sub(1)));
        return openRow(f, dtypes.weight, { weight, row, rows: columns, inputs });
      });
      const sums = rows.map(() => open.map(() => f.let(F32x4.const(0))));
      const accumulate = (i: I32, load: (address: Address) => F32x4, weightOf: (row: WeightRow) => F32x4) => {
        const a = xRows.map((row) => f.let(load(row.add(i.shl(2)))));
        open.forEach((row, c) => {
          const weights = f.let(weightOf(row));
          for (const [r, sum] of sums.entries()) f.set(sum[c]!, sum[c]!.add(a[r]!.mul(weights)));
        });
      };
      f.for(0, whole, 4, (i) =>
        accumulate(
          i,
          (address) => F32x4.load(address),
          (row) => row.quad(i),
        ),
      );
      f.for(whole, inputs, 1, (i) =>
        accumulate(
          i,
          (address) => F32x4.loadOne(address),
          (row) => F32x4.splat(row.one(i)),
        ),
      );
      sums.forEach((sum, r) => {
        for (const [c, s] of sum.entries()) f.store(to.add(first.shl(2)), sumOfLanes(f, s), 4 * (r * tileColumns + c));
      });
    });
  });
}
