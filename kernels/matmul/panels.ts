import { divideUp, type Scalars } from '../contract.ts';
import { type ModuleBuilder, range } from '../wasm/function.ts';
import { type KernelFrame, type Stage, type Target, type WasmVariant, wasmVariant } from '../wasm/kernel.ts';
import { transpose } from '../wasm/mathematics.ts';
import { Address, F32, I32 } from '../wasm/scalars.ts';
import { accumulate, storeTile, tileColumns, tileOf } from '../wasm/tile.ts';
import { F32x4 } from '../wasm/vectors.ts';
import type { Epilogue, WasmEpilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';
import { openRow } from './weight-rows.ts';

/** Rows of `x` in the tile that stays in registers; chosen by measurement (decision 0012). */
export const tileRows = 5;
/** Panels of columns in a unit of work: they share what is read of `x`. */
const panelsPerUnit = 2;
/** Rows of `x` are taken in runs of about this many bytes, which the second cache holds beside the weights. */
const runBytes = 256 * 1024;

const tileBytes = 4 * tileRows * tileColumns;

/**
 * Many rows: the products of Goto and van de Geijn, "Anatomy of high-performance matrix multiplication" (2008), on
 * WebAssembly's vectors. First `x` is rearranged into panels of `tileRows` rows, `(panels, inputs, tileRows)`. Then
 * each thread takes panels of eight rows of the weight, rearranges them to `(inputs, 8)` as f32 in memory of its own,
 * and runs every panel of `x` through them: a weight is unpacked once and used for all rows, and stays stored as it came.
 */
export const panels = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): WasmVariant<MatmulTensors, S> =>
  wasmVariant(operation, {
    name: 'panels',
    scratch: ({ rows, inputs }) => ({
      shared: 4 * divideUp(rows, tileRows) * tileRows * inputs,
      own: tileBytes + 4 * panelsPerUnit * tileColumns * inputs,
    }),
    stages: [
      { units: ({ rows }) => divideUp(rows, tileRows), emit: (_, main) => main(packRows) },
      {
        units: ({ block }) => divideUp(block, panelsPerUnit * tileColumns),
        emit: (module, main, target) => multiply(operation, epilogue.wasm, module, main, target),
      },
    ],
  });

/** A unit is a panel of `x`. Rows beyond the last are copies of it, of which the epilogue stores nothing. */
function packRows<S extends Scalars>(kernel: KernelFrame<MatmulTensors, S>): void {
  const { f } = kernel;
  const [x, rows, inputs] = [kernel.tensor('x'), kernel.size('rows'), kernel.size('inputs')];
  const rowBytes = f.let(inputs.shl(2));
  const panels = kernel.sharedScratch;
  kernel.eachUnit((panel) => {
    const from = range(tileRows).map((r) => f.let(x.add(panel.mul(tileRows).add(r).min(rows.sub(1)).mul(rowBytes))));
    const to = f.let(panels.add(panel.mul(tileRows).mul(rowBytes)));
    f.for(0, rowBytes, 4, (i) => {
      for (const r of range(tileRows)) f.store(to, F32.load(from[r]!.add(i)), 4 * r);
      f.advance(to, 4 * tileRows);
    });
  });
}

function multiply<S extends Scalars>(
  { splits }: MatmulLike<S>,
  epilogue: WasmEpilogue,
  module: ModuleBuilder,
  main: Parameters<Stage<MatmulTensors, S>['emit']>[1],
  { dtypes, features }: Target<MatmulTensors>,
): void {
  const pack = definePack(module, dtypes.weight);
  const multiplyTile = defineTile(module, features.has('relaxed-simd'));
  const finish = defineFinish(module, epilogue);
  main((kernel) => {
    const { f, scratch } = kernel;
    const [weight, out, shared] = [kernel.tensor('weight'), kernel.tensor('out'), kernel.sharedScratch];
    const [rows, inputs, block, outputs] = (['rows', 'inputs', 'block', 'outputs'] as const).map((d) => kernel.size(d));
    const first = kernel.size(splits!.offset);
    const outBytes = f.let(outputs!.shl(2));
    const panelBytes = f.let(inputs!.mul(4 * tileColumns));
    const rowPanelBytes = f.let(inputs!.mul(4 * tileRows));
    const run = f.let(I32.const(runBytes).div(rowPanelBytes).max(1).mul(tileRows));
    const packed = f.let(scratch.add(tileBytes));
    kernel.eachUnit((unit) => {
      const begin = f.let(unit.mul(panelsPerUnit * tileColumns));
      const end = f.let(begin.add(panelsPerUnit * tileColumns).min(block!));
      f.for(begin, end, tileColumns, (column) => {
        const to = packed.add(column.sub(begin).div(tileColumns).mul(panelBytes));
        f.call(pack, weight, column, block!, inputs!, to);
      });
      f.for(0, rows!, run, (firstRow) => {
        f.for(begin, end, tileColumns, (column) => {
          const panel = f.let(packed.add(column.sub(begin).div(tileColumns).mul(panelBytes)));
          const to = f.let(out.add(first.add(column).div(epilogue.columns).shl(2)));
          f.for(firstRow, firstRow.add(run).min(rows!), tileRows, (row) => {
            const from = f.let(shared.add(row.div(tileRows).mul(rowPanelBytes)));
            f.call(multiplyTile, from, panel, panel.add(panelBytes), scratch);
            f.call(
              finish,
              scratch,
              to.add(row.mul(outBytes)),
              outBytes,
              rows!.sub(row).min(tileRows),
              block!.sub(column),
            );
          });
        });
      });
    });
  });
}

/** `pack(weight, row, rows, inputs, to)`: eight rows of the weight from `row` on, input by input. */
function definePack(module: ModuleBuilder, dtype: Target<MatmulTensors>['dtypes']['weight']) {
  return module.define([Address, I32, I32, I32, Address], (f, [weight, row, rows, inputs, to]) => {
    const whole = f.let(inputs.and(-4));
    for (const half of [0, 4]) {
      const open = range(4).map((r) => {
        return openRow(f, dtype, { weight, row: f.let(row.add(half + r).min(rows.sub(1))), rows, inputs });
      });
      const at = f.let(to.add(4 * half));
      f.for(0, whole, 4, (i) => {
        const columns = transpose(
          f,
          open.map((w) => w.quad(i)),
        );
        for (const [j, column] of columns.entries()) f.store(at, column, 4 * tileColumns * j);
        f.advance(at, 16 * tileColumns);
      });
      f.for(whole, inputs, 1, (i) => {
        for (const [r, w] of open.entries()) f.store(at, w.one(i), 4 * r);
        f.advance(at, 4 * tileColumns);
      });
    }
  });
}

/** `multiplyTile(x, weight, end, sums)`: a panel of `x` and one of the weight, which ends at `end`. */
function defineTile(module: ModuleBuilder, relaxed: boolean) {
  return module.define([Address, Address, Address, Address], (f, [x, weight, end, to]) => {
    const sums = tileOf(f, tileRows, () => F32x4.const(0));
    accumulate(f, sums, { x, xBytes: 4 * tileRows, y: weight, end }, relaxed);
    storeTile(f, sums, to);
  });
}

/** `finish(sums, out, outBytes, rows, columns)`: gives the tile's sums, those inside the matrix, to the epilogue. */
export function defineFinish(module: ModuleBuilder, epilogue: WasmEpilogue) {
  return module.define([Address, Address, I32, I32, I32], (f, [sums, out, outBytes, rows, columns]) => {
    const end = f.let(sums.add(rows.mul(4 * tileColumns)));
    f.while(sums.lt(end), () => {
      f.if(
        columns.ge(tileColumns),
        () => epilogue.eight(f, out, f.let(F32x4.load(sums)), f.let(F32x4.load(sums, 16))),
        () => {
          f.for(0, columns.div(epilogue.columns), 1, (i) => {
            epilogue.one(f, f.let(out.add(i.shl(2))), f.let(sums.add(i.mul(4 * epilogue.columns))));
          });
        },
      );
      f.advance(sums, 4 * tileColumns);
      f.advance(out, outBytes);
    });
  });
}
