import { f32Bytes, i32Bytes } from './encoding.ts';
import { type Address, F32, I32 } from './scalars.ts';
import { after, like, place, simd, Value } from './value.ts';

/** A vector register, whatever its lanes. */
export abstract class V128 extends Value {
  readonly type = 'v128';

  and(other: V128) {
    return like(this, after([this, other], ...simd(78)));
  }

  or(other: V128) {
    return like(this, after([this, other], ...simd(80)));
  }

  /** Of lanes of 32 bits, 0 to 3 are this vector's, 4 to 7 the other's. */
  shuffle(other: V128, lanes: readonly [number, number, number, number]): this {
    const bytes = lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte));
    return like(this, after([this, other], ...simd(13), ...bytes));
  }
}

/** Four single-precision numbers. */
export class F32x4 extends V128 {
  static of(...lanes: readonly [number, number, number, number]) {
    return new F32x4([...simd(12), ...f32Bytes(...lanes)]);
  }

  static const(value: number) {
    return F32x4.of(value, value, value, value);
  }

  static splat(value: F32) {
    return new F32x4(after([value], ...simd(19)));
  }

  static load(address: Address, offset = 0) {
    return new F32x4(after([address], ...simd(0), ...place(offset)));
  }

  /** One number in all lanes. */
  static loadSplat(address: Address, offset = 0) {
    return new F32x4(after([address], ...simd(9), ...place(offset)));
  }

  /** One number in the first lane, zeros in the others. */
  static loadOne(address: Address, offset = 0) {
    return new F32x4(after([address], ...simd(92), ...place(offset)));
  }

  add(other: F32x4) {
    return new F32x4(after([this, other], ...simd(228)));
  }

  sub(other: F32x4) {
    return new F32x4(after([this, other], ...simd(229)));
  }

  mul(other: F32x4) {
    return new F32x4(after([this, other], ...simd(230)));
  }

  div(other: F32x4) {
    return new F32x4(after([this, other], ...simd(231)));
  }

  /** The smaller and the larger, in one instruction of x86; of NaN, whichever operand it makes the easier. */
  pmin(other: F32x4) {
    return new F32x4(after([this, other], ...simd(234)));
  }

  pmax(other: F32x4) {
    return new F32x4(after([this, other], ...simd(235)));
  }

  abs() {
    return new F32x4(after([this], ...simd(224)));
  }

  /** All bits of a lane where it holds. */
  ge(other: F32x4) {
    return new I32x4(after([this, other], ...simd(70)));
  }

  /** `this * factor + addend`, rounded once where the processor has such an instruction and else twice. */
  relaxedMadd(factor: F32x4, addend: F32x4) {
    return new F32x4(after([this, factor, addend], ...simd(0x105)));
  }

  asI32x4() {
    return new I32x4(this.code);
  }

  lane(index: number) {
    return new F32(after([this], ...simd(31), index));
  }
}

/** Four 32-bit integers. */
export class I32x4 extends V128 {
  static of(...lanes: readonly [number, number, number, number]) {
    return new I32x4([...simd(12), ...i32Bytes(...lanes)]);
  }

  static const(value: number) {
    return I32x4.of(value, value, value, value);
  }

  static splat(value: I32) {
    return new I32x4(after([value], ...simd(17)));
  }

  static load(address: Address, offset = 0) {
    return new I32x4(after([address], ...simd(0), ...place(offset)));
  }

  /** One number in all lanes. */
  static loadSplat(address: Address, offset = 0) {
    return new I32x4(after([address], ...simd(9), ...place(offset)));
  }

  /** Four 16-bit numbers, each with its sign. */
  static load16x4(address: Address, offset = 0) {
    return new I32x4(after([address], ...simd(3), ...place(offset)));
  }

  /** The sums of the two products of each pair of neighbouring 16-bit numbers. */
  static dot(a: I16x8, b: I16x8) {
    return new I32x4(after([a, b], ...simd(186)));
  }

  add(other: I32x4) {
    return new I32x4(after([this, other], ...simd(174)));
  }

  sub(other: I32x4) {
    return new I32x4(after([this, other], ...simd(177)));
  }

  shl(bits: number) {
    return new I32x4(after([this, I32.const(bits)], ...simd(171)));
  }

  /** Fills with zeros. */
  shr(bits: number) {
    return new I32x4(after([this, I32.const(bits)], ...simd(173)));
  }

  /** The smaller of unsigned numbers. */
  min(other: I32x4) {
    return new I32x4(after([this, other], ...simd(183)));
  }

  /** Whether the numbers are the same. */
  eq(other: I32x4) {
    return new I32x4(after([this, other], ...simd(55)));
  }

  /** Whether unsigned numbers are at most as large. */
  le(other: I32x4) {
    return new I32x4(after([this, other], ...simd(62)));
  }

  toF32x4() {
    return new F32x4(after([this], ...simd(250)));
  }

  asF32x4() {
    return new F32x4(this.code);
  }

  asI16x8() {
    return new I16x8(this.code);
  }

  asI8x16() {
    return new I8x16(this.code);
  }

  lane(index: number) {
    return new I32(after([this], ...simd(27), index));
  }

  /** `yes` in the bits that are set here. */
  select<T extends V128>(yes: T, no: T): T {
    return like(yes, after([yes, no, this], ...simd(82)));
  }

  /** Both vectors' numbers with 16 bits, the largest for those beyond. */
  narrow(other: I32x4) {
    return new I16x8(after([this, other], ...simd(133)));
  }

  /** The same without signs: numbers from 0 to 65,535 as they are. */
  narrowUnsigned(other: I32x4) {
    return new I16x8(after([this, other], ...simd(134)));
  }
}

/** Eight 16-bit integers. */
export class I16x8 extends V128 {
  /** @param value from 0 to 65,535 */
  static const(value: number) {
    const pair = (value << 16) | value;
    return new I16x8([...simd(12), ...i32Bytes(pair, pair, pair, pair)]);
  }

  static load(address: Address, offset = 0) {
    return new I16x8(after([address], ...simd(0), ...place(offset)));
  }

  /** Eight 8-bit numbers, each with its sign. */
  static load8x8(address: Address, offset = 0) {
    return new I16x8(after([address], ...simd(1), ...place(offset)));
  }

  /** Eight 8-bit numbers without signs. */
  static loadUnsigned8x8(address: Address, offset = 0) {
    return new I16x8(after([address], ...simd(2), ...place(offset)));
  }

  sub(other: I16x8) {
    return new I16x8(after([this, other], ...simd(145)));
  }

  shl(bits: number) {
    return new I16x8(after([this, I32.const(bits)], ...simd(139)));
  }

  /** Fills with zeros. */
  shr(bits: number) {
    return new I16x8(after([this, I32.const(bits)], ...simd(141)));
  }

  /** The larger of unsigned numbers. */
  max(other: I16x8) {
    return new I16x8(after([this, other], ...simd(153)));
  }

  eq(other: I16x8) {
    return new I16x8(after([this, other], ...simd(45)));
  }

  /** Whether unsigned numbers are at most as large. */
  le(other: I16x8) {
    return new I16x8(after([this, other], ...simd(52)));
  }

  /** 1 where no lane is 0, else 0. */
  allTrue() {
    return new I32(after([this], ...simd(131)));
  }

  /** Both vectors' numbers with 8 bits, without signs: 0 for those below and 255 for those above. */
  narrowUnsigned(other: I16x8) {
    return new I8x16(after([this, other], ...simd(102)));
  }

  /** The four numbers of the lower half, each with its sign. */
  extendLow() {
    return new I32x4(after([this], ...simd(167)));
  }

  /** The numbers of either half, without signs. */
  extendLowUnsigned() {
    return new I32x4(after([this], ...simd(169)));
  }

  extendHighUnsigned() {
    return new I32x4(after([this], ...simd(170)));
  }

  asI32x4() {
    return new I32x4(this.code);
  }
}

/** Sixteen 8-bit integers. */
export class I8x16 extends V128 {
  /** The sums of the two products of each pair of neighbours; defined where `b` has numbers from 0 to 127 alone. */
  static relaxedDot(a: I8x16, b: I8x16) {
    return new I16x8(after([a, b], ...simd(0x112)));
  }

  asI32x4() {
    return new I32x4(this.code);
  }
}
