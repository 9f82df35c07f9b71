import { silu } from '../gated-matmul/silu.ts';
import type { FunctionBuilder } from '../wasm/function.ts';
import { silu as siluWasm } from '../wasm/mathematics.ts';
import { type Address, F32 } from '../wasm/scalars.ts';
import { F32x4 } from '../wasm/vectors.ts';

/**
 * What becomes of the products of `x` with the rows of `weight`: all that differs between the operations of the matmul
 * family. A column is a row of the whole weight, of which the kernel at hand may have been given a block.
 */
export interface Epilogue {
  /** Of how many sums a result is the product: where inputs are rounded, their relative errors add up. */
  readonly factors: 1 | 2;
  /**
   * Defines `fn write(row: u32, column: u32, sums: vec2<f32>)`, which takes two neighbouring columns of the block, the
   * first of them even, and leaves out what lies beyond the matrix.
   */
  readonly wgsl: string;
  /**
   * The same on the processor, for `count` neighbouring columns of the whole weight.
   * @param start where the row begins in `out`
   * @param at where its sums begin in `sums`
   */
  write(out: Float32Array, start: number, column: number, sums: Float64Array, at: number, count: number): void;
  readonly wasm: WasmEpilogue;
}

/** The same in WebAssembly, told where the results of the columns at hand begin in `out`. */
export interface WasmEpilogue {
  /** Columns that make one number of `out`. */
  readonly columns: 1 | 2;
  /** Takes eight neighbouring columns. */
  eight(f: FunctionBuilder, out: Address, low: F32x4, high: F32x4): void;
  /** Takes the columns of one number, whose sums stand at `sums`. */
  one(f: FunctionBuilder, out: Address, sums: Address): void;
}

/** `out = sums` */
export const store: Epilogue = {
  factors: 1,
  wgsl: /* wgsl */ `
fn write(row: u32, column: u32, sums: vec2<f32>) {
  if (row >= params.rows || column >= params.block) { return; }
  let at = row * params.outputs + params.firstOutput + column;
  out[at] = sums.x;
  if (column + 1u < params.block) { out[at + 1u] = sums.y; }
}
`,
  write(out, start, column, sums, at, count) {
    for (let c = 0; c < count; c++) out[start + column + c] = sums[at + c]!;
  },
  wasm: {
    columns: 1,
    eight(f, out, low, high) {
      f.store(out, low);
      f.store(out, high, 16);
    },
    one: (f, out, sums) => f.store(out, F32.load(sums)),
  },
};

/** `out += sums` */
export const add: Epilogue = {
  factors: 1,
  wgsl: /* wgsl */ `
fn write(row: u32, column: u32, sums: vec2<f32>) {
  if (row >= params.rows || column >= params.block) { return; }
  let at = row * params.outputs + params.firstOutput + column;
  out[at] += sums.x;
  if (column + 1u < params.block) { out[at + 1u] += sums.y; }
}
`,
  write(out, start, column, sums, at, count) {
    for (let c = 0; c < count; c++) out[start + column + c]! += sums[at + c]!;
  },
  wasm: {
    columns: 1,
    eight(f, out, low, high) {
      f.store(out, F32x4.load(out).add(low));
      f.store(out, F32x4.load(out, 16).add(high), 16);
    },
    one: (f, out, sums) => f.store(out, F32.load(out).add(F32.load(sums))),
  },
};

/** `out = silu(gate) * up`, of neighbours (gate, up); blocks have an even number of rows. */
export const gate: Epilogue = {
  factors: 2,
  wgsl: /* wgsl */ `
${silu.wgsl('f32')}
fn write(row: u32, column: u32, sums: vec2<f32>) {
  if (row >= params.rows || column >= params.block) { return; }
  out[row * params.outputs + (params.firstColumn + column) / 2u] = silu(sums.x) * sums.y;
}
`,
  write(out, start, column, sums, at, count) {
    for (let c = 0; c < count; c += 2) out[start + (column + c) / 2] = silu.of(sums[at + c]!) * sums[at + c + 1]!;
  },
  wasm: {
    columns: 2,
    eight(f, out, low, high) {
      const gates = f.let(low.shuffle(high, [0, 2, 4, 6]));
      const ups = f.let(low.shuffle(high, [1, 3, 5, 7]));
      f.store(out, siluWasm(f, gates).mul(ups));
    },
    one: (f, out, sums) => f.store(out, siluWasm(f, F32x4.loadSplat(sums)).lane(0).mul(F32.load(sums, 4))),
  },
};
