import type { Scalars } from '../contract.ts';
import type { CpuVariant } from '../cpu.ts';
import { decodeRows } from '../quantise.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike, MatmulTensors } from './index.ts';

/** Outputs computed together: their weights are unpacked once, for all rows. */
const width = 4;

/**
 * Plain TypeScript. Four rows by four outputs at a time, the sixteen sums in local variables so that V8 keeps them in
 * registers: eight loads serve sixteen multiply-adds. Float64 throughout, as that is what V8 computes without
 * converting back and forth.
 */
export const blocked = <S extends Scalars>(
  operation: MatmulLike<S>,
  epilogue: Epilogue,
): CpuVariant<MatmulTensors, S> => ({
  kind: 'cpu',
  operation,
  name: 'blocked',
  run({ x, weight, out }, { rows, inputs, block, outputs }, scalars, dtypes) {
    const first = scalars[operation.splits!.offset];
    const panel = new Float64Array(width * inputs);
    // (rows, width); they are handed on in an array, as V8 would allocate each that is passed to a function.
    const sums = new Float64Array(4 * width);
    for (let j = 0; j < block; j += width) {
      const count = Math.min(width, block - j);
      const used = panel.subarray(0, count * inputs);
      decodeRows(weight, dtypes.weight, [block, inputs], j, used);
      for (let row = 0, together: number; row < rows; row += together) {
        together = rows - row < 4 ? 1 : 4;
        (together === 4 ? fourRows : oneRow)(x as Float32Array, row, panel, inputs, sums);
        for (let r = 0; r < together; r++) {
          epilogue.write(out as Float32Array, (row + r) * outputs, first + j, sums, width * r, count);
        }
      }
    }
  },
});

function fourRows(x: Float32Array, row: number, panel: Float64Array, inputs: number, sums: Float64Array): void {
  const x0 = row * inputs;
  const x1 = x0 + inputs;
  const x2 = x1 + inputs;
  const x3 = x2 + inputs;
  const w1 = inputs;
  const w2 = w1 + inputs;
  const w3 = w2 + inputs;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  let s20 = 0;
  let s21 = 0;
  let s22 = 0;
  let s23 = 0;
  let s30 = 0;
  let s31 = 0;
  let s32 = 0;
  let s33 = 0;
  for (let i = 0; i < inputs; i++) {
    const a0 = x[x0 + i]!;
    const a1 = x[x1 + i]!;
    const a2 = x[x2 + i]!;
    const a3 = x[x3 + i]!;
    const b0 = panel[i]!;
    const b1 = panel[w1 + i]!;
    const b2 = panel[w2 + i]!;
    const b3 = panel[w3 + i]!;
    s00 += a0 * b0;
    s01 += a0 * b1;
    s02 += a0 * b2;
    s03 += a0 * b3;
    s10 += a1 * b0;
    s11 += a1 * b1;
    s12 += a1 * b2;
    s13 += a1 * b3;
    s20 += a2 * b0;
    s21 += a2 * b1;
    s22 += a2 * b2;
    s23 += a2 * b3;
    s30 += a3 * b0;
    s31 += a3 * b1;
    s32 += a3 * b2;
    s33 += a3 * b3;
  }
  sums[0] = s00;
  sums[1] = s01;
  sums[2] = s02;
  sums[3] = s03;
  sums[4] = s10;
  sums[5] = s11;
  sums[6] = s12;
  sums[7] = s13;
  sums[8] = s20;
  sums[9] = s21;
  sums[10] = s22;
  sums[11] = s23;
  sums[12] = s30;
  sums[13] = s31;
  sums[14] = s32;
  sums[15] = s33;
}

function oneRow(x: Float32Array, row: number, panel: Float64Array, inputs: number, sums: Float64Array): void {
  const x0 = row * inputs;
  const w1 = inputs;
  const w2 = w1 + inputs;
  const w3 = w2 + inputs;
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  for (let i = 0; i < inputs; i++) {
    const a = x[x0 + i]!;
    s0 += a * panel[i]!;
    s1 += a * panel[w1 + i]!;
    s2 += a * panel[w2 + i]!;
    s3 += a * panel[w3 + i]!;
  }
  sums[0] = s0;
  sums[1] = s1;
  sums[2] = s2;
  sums[3] = s3;
}
