import type { FunctionBuilder } from './function.ts';
import { type Address, F32, type I32 } from './scalars.ts';
import { F32x4, I32x4, type V128 } from './vectors.ts';

/** 1.5 * 2^23: numbers around it have a unit in their last place of 1, so adding it rounds, ties to even. */
const roundingShift = 12_582_912;
const roundingShiftBits = 0x4b40_0000;

/** The nearest whole number to each lane, all within 2^22 of 0, plus `more`. */
export const nearestInteger = (value: F32x4, more = 0): I32x4 =>
  value
    .add(F32x4.const(roundingShift + more))
    .asI32x4()
    .sub(I32x4.const(roundingShiftBits));

/** ln 2 in two parts: the first has few enough bits that whole multiples of it are exact. */
const ln2High = 0.693359375;
const ln2Low = -2.1219444e-4;
/** Beyond these, exp would leave the normal numbers; it is held there. */
const [lowest, highest] = [-87.33, 88.37];
/** (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first: Moshier's Cephes, expf.c. */
const polynomial = [1.98756915e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1];

/**
 * exp in every lane: 2^n exp(r) with the nearest n. Its relative error is below 2e-7, 1.5 units in the last place
 * (asserted in test/wasm.test.ts). Numbers below -87.33 give exp(-87.33), 1e-38.
 */
export function exp(f: FunctionBuilder, value: F32x4): F32x4 {
  const x = f.let(value.pmax(F32x4.const(lowest)).pmin(F32x4.const(highest)));
  const rounded = f.let(nearestInteger(x.mul(F32x4.const(Math.LOG2E))));
  const n = f.let(rounded.toF32x4());
  const r = f.let(x.sub(n.mul(F32x4.const(ln2High))).sub(n.mul(F32x4.const(ln2Low))));
  const square = f.let(r.mul(r));
  // In pairs, whose sums do not wait for one another (Estrin's scheme).
  const [high, middle, low] = [0, 2, 4].map((i) =>
    F32x4.const(polynomial[i]!)
      .mul(r)
      .add(F32x4.const(polynomial[i + 1]!)),
  );
  const p = high!.mul(square).add(middle!).mul(square).add(low!);
  const power = rounded.add(I32x4.const(127)).shl(23).asF32x4();
  return f.let(
    p
      .mul(square)
      .add(r.add(F32x4.const(1)))
      .mul(power),
  );
}

/** atanh(s) / s by powers of s^2, highest first. */
const atanhSeries = [1 / 9, 1 / 7, 1 / 5, 1 / 3, 1];

/**
 * log of a positive normal number, 0 for 1; of NaN some number. Of x = 2^k m with m between sqrt(1/2) and sqrt(2),
 * log m = 2 atanh(s) with s = (m - 1) / (m + 1), whose series ends below 4e-9. Within 3e-7 (asserted in
 * test/wasm.test.ts).
 */
export function log(f: FunctionBuilder, value: F32): F32 {
  const one = F32.const(1);
  const bits = f.let(value.asI32());
  // The bits of sqrt(1/2): what lies above the next power of two times it has the next exponent.
  const k = f.let(bits.sub(0x3f35_04f3).shrSigned(23));
  const m = f.let(bits.sub(k.shl(23)).asF32());
  const s = f.let(m.sub(one).div(m.add(one)));
  const square = f.let(s.mul(s));
  const series = atanhSeries.map((c) => F32.const(c)).reduce((sum, c) => sum.mul(square).add(c));
  const exponent = f.let(k.toF32Signed());
  const small = exponent.mul(F32.const(ln2Low)).add(F32.const(2).mul(s).mul(series));
  return f.let(exponent.mul(F32.const(ln2High)).add(small));
}

/** x / (1 + exp(-x)) */
export const silu = (f: FunctionBuilder, x: F32x4): F32x4 => x.div(exp(f, F32x4.const(0).sub(x)).add(F32x4.const(1)));

/** The sum of four lanes, in pairs. */
export function sumOfLanes(f: FunctionBuilder, value: F32x4): F32 {
  const x = f.let(value);
  const pairs = f.let(x.add(x.shuffle(x, [2, 3, 0, 1])));
  return pairs.lane(0).add(pairs.lane(1));
}

/** 0; NaN where a lane is NaN or infinite, which rounding to whole numbers would hide. */
export function zeroOrNaN(f: FunctionBuilder, value: F32x4): F32 {
  const sum = f.let(sumOfLanes(f, value));
  return sum.sub(sum);
}

export function largestLane(f: FunctionBuilder, value: F32x4): F32 {
  const x = f.let(value);
  const pairs = f.let(x.pmax(x.shuffle(x, [2, 3, 0, 1])));
  return pairs.lane(0).max(pairs.lane(1));
}

/** Four rows of four become four columns. */
export function transpose<T extends V128>(f: FunctionBuilder, rows: readonly T[]): T[] {
  const kept = (value: T): T => f.let(value);
  const [a, b, c, d] = rows.map(kept) as [T, T, T, T];
  const low = [kept(a.shuffle(b, [0, 4, 1, 5])), kept(c.shuffle(d, [0, 4, 1, 5]))] as const;
  const high = [kept(a.shuffle(b, [2, 6, 3, 7])), kept(c.shuffle(d, [2, 6, 3, 7]))] as const;
  return [low, high].flatMap(([ab, cd]) => [ab.shuffle(cd, [0, 1, 4, 5]), ab.shuffle(cd, [2, 3, 6, 7])]);
}

/**
 * f16 bits, each extended to 32 with its sign, as f32; exact. The exponent and fraction move to their places, which
 * leaves an exponent too small by 112; multiplying by 2^112 repairs it, for subnormal numbers too. What then is 2^16 or
 * more was infinity or NaN, and gets all bits of an f32's exponent.
 */
export function f16ToF32x4(f: FunctionBuilder, halves: I32x4): F32x4 {
  const shifted = halves
    .shl(13)
    .and(I32x4.const(0x8fff_e000 | 0))
    .asF32x4();
  const scaled = f.let(shifted.mul(F32x4.const(2 ** 112)));
  const beyond = scaled
    .abs()
    .ge(F32x4.const(2 ** 16))
    .and(I32x4.const(0x7f80_0000));
  return scaled.or(beyond.asF32x4());
}

/** The same for one number. */
export const f16ToF32 = (f: FunctionBuilder, half: I32): F32 => f16ToF32x4(f, I32x4.splat(half)).lane(0);

/**
 * A number as f16 bits, rounded to the nearest, ties to even; infinity for what is too large. NaN is not kept. Where
 * f16 is subnormal, adding 0.5 leaves the number in units of 2^-24 in the lowest bits, rounded by the addition.
 */
export function f32ToF16(f: FunctionBuilder, value: F32): I32 {
  const bits = f.let(value.asI32());
  const magnitude = f.let(bits.and(0x7fff_ffff));
  const rounded = magnitude.add(0xfff).add(magnitude.shr(13).and(1));
  const normal = rounded.sub(112 << 23).shr(13);
  const subnormal = magnitude.asF32().add(F32.const(0.5)).asI32().sub(0x3f00_0000);
  const finite = magnitude.lt(113 << 23).select(subnormal, normal);
  return bits.shr(16).and(0x8000).add(finite.min(0x7c00));
}

/** Runs over `count` neighbouring f32: four at a time, then what is left one by one, in the first lane. */
export function eachQuad(
  f: FunctionBuilder,
  count: I32,
  body: (load: (address: Address) => F32x4, store: (address: Address, value: F32x4) => void) => void,
): void {
  const bytes = f.let(count.shl(2));
  const whole = f.let(bytes.and(-16));
  f.for(0, whole, 16, (offset) =>
    body(
      (address) => F32x4.load(address.add(offset)),
      (address, value) => f.store(address.add(offset), value),
    ),
  );
  f.for(whole, bytes, 4, (offset) =>
    body(
      (address) => F32x4.loadOne(address.add(offset)),
      (address, value) => f.store(address.add(offset), value.lane(0)),
    ),
  );
}
