import { signed } from './encoding.ts';
import { after, I32, like, place, Value } from './values.ts';

/**
 * A place in memory. How wide it is depends on the memory and is settled when a module is made; kernels are the same for
 * both. Offsets have 32 bits whatever the memory: no tensor takes more than 4 GiB.
 */
export abstract class Address extends Value {
  /** Some bytes on, unsigned. */
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
