import { f32Bytes, signed } from './encoding.ts';
import { after, like, place, Value } from './value.ts';

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

/**
 * A place in memory. How wide it is depends on the memory and is settled when a module is made; kernels are the same for
 * both. Offsets have 32 bits whatever the memory: no tensor takes more than 4 GiB.
 */
export abstract class Address extends Value {
  /** Some bytes on; an `I32` is unsigned. */
  abstract add(bytes: I32 | number): this;
  abstract lt(end: Address): I32;
  /** The address that is kept at this one. */
  abstract load(offset?: number): this;
}

class Address32 extends Address {
  readonly type = 'i32';

  add(bytes: I32 | number): this {
    return like(this, bytes === 0 ? this.code : after([this, I32.of(bytes)], 0x6a));
  }

  lt(end: Address): I32 {
    return new I32(after([this, end], 0x49));
  }

  load(offset = 0): this {
    return like(this, after([this], 0x28, place(offset)));
  }
}

class Address64 extends Address {
  readonly type = 'i64';

  add(bytes: I32 | number): this {
    if (bytes === 0) return this;
    const wide = typeof bytes === 'number' ? [0x42, signed(bytes)] : after([bytes], 0xad);
    return like(this, [this.code, wide, 0x7c]);
  }

  lt(end: Address): I32 {
    return new I32(after([this, end], 0x54));
  }

  load(offset = 0): this {
    return like(this, after([this], 0x29, place(offset)));
  }
}

/** The addresses of a memory: 32 or 64 bits of them. */
export const addressesOf = (bits: 32 | 64) => (bits === 64 ? Address64 : Address32);
