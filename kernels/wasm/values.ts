import type { Address } from './address.ts';
import { type Code, f32Bytes, i32Bytes, signed, unsigned, type ValueType } from './encoding.ts';

/**
 * Typed expressions. A value is the instructions that leave it on the stack, and an operator puts its instruction
 * after those of its operands: an expression written in TypeScript is the WebAssembly that computes it, under the
 * names of the instructions. An expression used twice is computed twice; `FunctionBuilder.let` keeps it.
 *
 * Opcodes: WebAssembly Core Specification 2.0, 5.4; `relaxedMadd`: the relaxed SIMD proposal.
 */
export abstract class Value {
  abstract readonly type: ValueType;
  readonly code: Code;

  constructor(code: Code) {
    this.code = code;
  }
}

/** Another expression of the type of `value`. */
export function like<T extends Value>(value: T, code: Code): T {
  return new (value.constructor as new (code: Code) => T)(code);
}

/** An instruction behind its operands. */
export const after = (operands: readonly Value[], ...opcode: Code): Code => [
  ...operands.map(({ code }) => code),
  ...opcode,
];
/** Vector instructions have numbers of their own behind a prefix. */
const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
/** What follows the opcode of a load or store: no alignment is promised, and `offset` is added to the address. */
export const place = (offset: number): number[] => [0, ...unsigned(offset)];

export const storeCode = (type: ValueType, offset: number): number[] => [
  ...{ i32: [0x36], i64: [0x37], f32: [0x38], v128: simd(11) }[type],
  ...place(offset),
];

/** A 32-bit integer: an offset, a counter, or a condition, which is 0 or 1. Unsigned where that makes a difference. */
export class I32 extends Value {
  readonly type = 'i32';

  static const(value: number) {
    return new I32([0x41, ...signed(value | 0)]);
  }

  static of(value: I32 | number) {
    return typeof value === 'number' ? I32.const(value) : value;
  }

  static load(address: Address, offset = 0) {
    return new I32(after([address], 0x28, ...place(offset)));
  }

  static load16Signed(address: Address, offset = 0) {
    return new I32(after([address], 0x2e, ...place(offset)));
  }

  static load16(address: Address, offset = 0) {
    return new I32(after([address], 0x2f, ...place(offset)));
  }

  add(other: I32 | number) {
    return other === 0 ? new I32(this.code) : this.#with(0x6a, other);
  }

  sub(other: I32 | number) {
    return this.#with(0x6b, other);
  }

  mul(other: I32 | number) {
    return this.#with(0x6c, other);
  }

  div(other: I32 | number) {
    return this.#with(0x6e, other);
  }

  rem(other: I32 | number) {
    return this.#with(0x70, other);
  }

  and(other: I32 | number) {
    return this.#with(0x71, other);
  }

  shl(other: I32 | number) {
    return this.#with(0x74, other);
  }

  shr(other: I32 | number) {
    return this.#with(0x76, other);
  }

  xor(other: I32 | number) {
    return this.#with(0x73, other);
  }

  /** Fills with the sign. */
  shrSigned(other: I32 | number) {
    return this.#with(0x75, other);
  }

  eq(other: I32 | number) {
    return this.#with(0x46, other);
  }

  lt(other: I32 | number) {
    return this.#with(0x49, other);
  }

  gt(other: I32 | number) {
    return this.#with(0x4b, other);
  }

  le(other: I32 | number) {
    return this.#with(0x4d, other);
  }

  ge(other: I32 | number) {
    return this.#with(0x4f, other);
  }

  /** `yes` where this is not 0; both are computed. */
  select<T extends Value>(yes: T, no: T): T {
    return like(yes, after([yes, no, this], 0x1b));
  }

  min(other: I32 | number): I32 {
    return this.lt(other).select<I32>(this, I32.of(other));
  }

  max(other: I32 | number): I32 {
    return this.gt(other).select<I32>(this, I32.of(other));
  }

  toF32() {
    return new F32(after([this], 0xb3));
  }

  toF32Signed() {
    return new F32(after([this], 0xb2));
  }

  /** The number that these bits stand for. */
  asF32() {
    return new F32(after([this], 0xbe));
  }

  #with(opcode: number, other: I32 | number): I32 {
    return new I32(after([this, I32.of(other)], opcode));
  }
}

/** A single-precision number. */
export class F32 extends Value {
  readonly type = 'f32';

  static const(value: number) {
    return new F32([0x43, ...f32Bytes(value)]);
  }

  static load(address: Address, offset = 0) {
    return new F32(after([address], 0x2a, ...place(offset)));
  }

  add(other: F32) {
    return new F32(after([this, other], 0x92));
  }

  sub(other: F32) {
    return new F32(after([this, other], 0x93));
  }

  mul(other: F32) {
    return new F32(after([this, other], 0x94));
  }

  div(other: F32) {
    return new F32(after([this, other], 0x95));
  }

  max(other: F32) {
    return new F32(after([this, other], 0x97));
  }

  sqrt() {
    return new F32(after([this], 0x91));
  }

  gt(other: F32) {
    return new I32(after([this, other], 0x5e));
  }

  asI32() {
    return new I32(after([this], 0xbc));
  }
}

/** A vector register, whatever its lanes. */
abstract class V128 extends Value {
  readonly type = 'v128';

  and(other: V128) {
    return like(this, after([this, other], ...simd(78)));
  }

  or(other: V128) {
    return like(this, after([this, other], ...simd(80)));
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

  nearest() {
    return new F32x4(after([this], ...simd(106)));
  }

  /** All bits of a lane where it holds. */
  ge(other: F32x4) {
    return new I32x4(after([this, other], ...simd(70)));
  }

  /** `this * factor + addend`, rounded once where the processor has such an instruction and else twice. */
  relaxedMadd(factor: F32x4, addend: F32x4) {
    return new F32x4(after([this, factor, addend], ...simd(0x105)));
  }

  /** Nearest to zero, at most and at least what fits; NaN becomes 0. */
  toI32x4() {
    return new I32x4(after([this], ...simd(248)));
  }

  asI32x4() {
    return new I32x4(this.code);
  }

  lane(index: number) {
    return new F32(after([this], ...simd(31), index));
  }

  /** Lanes 0 to 3 are this vector's, 4 to 7 the other's. */
  shuffle(other: F32x4, lanes: readonly [number, number, number, number]) {
    const bytes = lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte));
    return new F32x4(after([this, other], ...simd(13), ...bytes));
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

  /** The same two numbers four times. */
  static loadSplatPair(address: Address, offset = 0) {
    return new I16x8(after([address], ...simd(9), ...place(offset)));
  }

  sub(other: I16x8) {
    return new I16x8(after([this, other], ...simd(145)));
  }

  shl(bits: number) {
    return new I16x8(after([this, I32.const(bits)], ...simd(139)));
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

  /** The four numbers of the lower half, each with its sign. */
  extendLow() {
    return new I32x4(after([this], ...simd(167)));
  }

  asI32x4() {
    return new I32x4(this.code);
  }
}
