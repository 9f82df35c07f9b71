import { type FunctionBuilder, range, type Variable } from './function.ts';
import type { Address, I32 } from './scalars.ts';
import { F32x4 } from './vectors.ts';

/** Columns of a tile: two vectors. */
export const tileColumns = 8;
/** Bytes from one row of a tile, or one step of its columns, to the next. */
export const columnBytes = 4 * tileColumns;

export type Sums = readonly (readonly Variable<F32x4>[])[];

/** The sums of a tile in registers. */
export const tileOf = (f: FunctionBuilder, rows: number, first: (row: number, vector: number) => F32x4): Sums =>
  range(rows).map((row) => range(tileColumns / 4).map((vector) => f.let(first(row, vector))));

export function storeTile(f: FunctionBuilder, sums: Sums, to: Address): void {
  for (const [i, sum] of sums.flat().entries()) f.store(to, sum, 16 * i);
}

/** `a * b + c`, fused where the engine may. */
export const multiplyAdd = (a: F32x4, b: F32x4, c: F32x4, relaxed: boolean): F32x4 =>
  relaxed ? a.relaxedMadd(b, c) : c.add(a.mul(b));

/**
 * The same address, in so many instructions that V8 takes the body of a loop that advances to it for a large one, which it
 * does not unroll. Of the copies it makes of a small one, all but the last have their loads before all arithmetic, which
 * then runs out of registers. Its optimiser removes the instructions afterwards; what other engines make of them is not
 * measured. V8 of Node.js 24 has no need of this.
 */
export const notUnrolled = (at: Address): Address => range(10).reduce((same) => same.add(1).add(-1), at);

/**
 * The micro-kernel: `sums[r, c] += x[step, r] * y[step, c]` for every step from `y` to `end`. A step takes two vectors of
 * `y`, a number of each row of `x` in all lanes, and a multiply-add for each vector of sums. `x` moves by `xBytes` a step,
 * `y` by a row of eight.
 *
 * Not unrolled: V8 puts all loads of an iteration before all its arithmetic, and a longer one runs out of registers.
 */
export function accumulate(
  f: FunctionBuilder,
  sums: Sums,
  { x, xBytes, y, end }: { x: Variable<Address>; xBytes: I32 | number; y: Variable<Address>; end: Address },
  relaxed: boolean,
): void {
  f.while(y.lt(end), () => {
    const columns = range(tileColumns / 4).map((vector) => f.let(F32x4.load(y, 16 * vector)));
    sums.forEach((row, r) => {
      const a = f.let(F32x4.loadSplat(x, 4 * r));
      for (const [v, sum] of row.entries()) f.set(sum, multiplyAdd(a, columns[v]!, sum, relaxed));
    });
    f.advance(x, xBytes);
    f.advance(y, columnBytes);
  });
}
