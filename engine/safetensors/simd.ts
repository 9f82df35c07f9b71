import { f16Infinity, f32Infinity } from '../../kernels/f16.ts';
import { pageBytes } from '../../kernels/wasm/encoding.ts';
import { type FunctionBuilder, ModuleBuilder, type Variable } from '../../kernels/wasm/function.ts';
import { f16ToF32x4 } from '../../kernels/wasm/mathematics.ts';
import { Address, I32 } from '../../kernels/wasm/scalars.ts';
import { F32x4, I16x8, I32x4 } from '../../kernels/wasm/vectors.ts';
import type { FloatDType } from './convert.ts';

/** `(from, to, count, flag)`: converts numbers, eight at a time. */
type Conversion = (from: number, to: number, count: number, flag: number) => void;

/** Numbers of a step; memory that is converted has room for whole steps. */
const step = 8;
/** Where a conversion says that a number became infinite; the buffers begin a page later. */
const flagAddress = 0;

/** Bytes that a buffer takes of a converter's memory: whole pages, with room for the last step. */
export const roomOf = (bytes: number): number => Math.ceil((bytes + 4 * step) / pageBytes) * pageBytes;

/**
 * The conversions of convert.ts in WebAssembly SIMD, some ten times as fast: over memory of its own, in which what is to be
 * converted has to lie. In numbers that are not NaN both agree to the bit.
 */
export class SimdConverter {
  readonly #memory: WebAssembly.Memory;
  readonly #conversions = new Map<string, Conversion>();
  #end = pageBytes;

  /** @param bytes that all buffers together take, by `roomOf` */
  constructor(bytes: number) {
    const pages = (pageBytes + bytes) / pageBytes;
    this.#memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
  }

  /** A part of the memory, which begins on a page: some processors copy several times slower to elsewhere. */
  allocate(bytes: number): Uint8Array<ArrayBuffer> {
    const begin = this.#end;
    this.#end += roomOf(bytes);
    return new Uint8Array(this.#memory.buffer, begin, bytes);
  }

  /** Whether bytes lie in this memory. */
  holds({ buffer }: Uint8Array): boolean {
    return buffer === this.#memory.buffer;
  }

  /**
   * Rounds numbers to f16, to nearest, ties to even, where they lie; they take the first bytes of `bytes` then.
   * @returns whether a finite one became infinite
   */
  toF16(bytes: Uint8Array, dtype: Exclude<FloatDType, 'F16'>): boolean {
    return this.#convert(`${dtype} to f16`, bytes, bytes.byteOffset, dtype);
  }

  /** Widens numbers into `target`, which has room for four bytes each; exact. */
  toF32(bytes: Uint8Array, dtype: Exclude<FloatDType, 'F32'>, target: Uint8Array): void {
    this.#convert(`${dtype} to f32`, bytes, target.byteOffset, dtype);
  }

  #convert(name: string, bytes: Uint8Array, to: number, dtype: FloatDType): boolean {
    const { buffer } = this.#memory;
    const end = bytes.byteOffset + bytes.length;
    // What else the last step takes in must not count.
    new Uint8Array(buffer, end, 4 * step).fill(0);
    const flag = new Uint32Array(buffer, flagAddress, 1);
    flag[0] = 0;
    this.#conversion(name)(bytes.byteOffset, to, bytes.length / (dtype === 'F32' ? 4 : 2), flagAddress);
    return flag[0] !== 0;
  }

  #conversion(name: string): Conversion {
    const known = this.#conversions.get(name);
    if (known) return known;
    const module = new ModuleBuilder({ shared: false, bits: 32 });
    module.define([Address, Address, I32, Address], (f, [from, to, count, flag]) => {
      bodies[name]!(f, { from: f.let<Address>(from), to: f.let<Address>(to), count, flag });
    });
    const compiled = new WebAssembly.Module(module.encode());
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory: this.#memory } });
    const made = exports.run as Conversion;
    this.#conversions.set(name, made);
    return made;
  }
}

interface Given {
  /** Where the next step's numbers are, and where they go. */
  readonly from: Variable<Address>;
  readonly to: Variable<Address>;
  readonly count: I32;
  readonly flag: Address;
}

type Body = (f: FunctionBuilder, given: Given) => void;

const bodies: Readonly<Record<string, Body>> = {
  // A bfloat16 is the upper half of an f32.
  'BF16 to f16': narrowing(16, (from, half) => I32x4.load16x4(from, 8 * half).shl(16), rebiased),
  'F32 to f16': narrowing(32, (from, half) => I32x4.load(from, 16 * half)),
  'BF16 to f32': widening((_, numbers) => numbers.shl(16).asF32x4()),
  'F16 to f32': widening(f16ToF32x4),
};

/** What a step comes to where its numbers are of a kind that takes no rounding, and whether they all are. */
type Shortcut = (f: FunctionBuilder, from: Address) => { readonly applies: I32; readonly result: I16x8 };

/** @param load the bits of f32 numbers of either half of a step */
function narrowing(stepBytes: number, load: (from: Address, half: 0 | 1) => I32x4, shortcut?: Shortcut): Body {
  return (f, { from, to, count, flag }) => {
    const overflown = f.let(I32x4.const(0));
    f.for(0, count, step, () => {
      const round = () => {
        const [low, high] = ([0, 1] as const).map((half) => roundToF16(f, load(from, half), overflown));
        f.store(to, low!.narrowUnsigned(high!));
      };
      const short = shortcut?.(f, from);
      if (short) f.if(short.applies, () => f.store(to, short.result), round);
      else round();
      f.advance(from, stepBytes);
      f.advance(to, 2 * step);
    });
    const [first, ...others] = [0, 1, 2, 3].map((lane) => overflown.lane(lane).and(1));
    f.store(
      flag,
      others.reduce((sum, lane) => sum.add(lane), first!),
    );
  };
}

function widening(widen: (f: FunctionBuilder, numbers: I32x4) => F32x4): Body {
  return (f, { from, to, count }) => {
    f.for(0, count, step, () => {
      for (const half of [0, 1]) f.store(to, widen(f, f.let(I32x4.load16x4(from, 8 * half))), 16 * half);
      f.advance(from, 2 * step);
      f.advance(to, 4 * step);
    });
  };
}

/**
 * Of bfloat16, zeros and what f16 has as normal numbers: exponents from 113 to 142, that is. Their seven bits of fraction
 * fit in f16's ten, so that the exponent is counted from elsewhere and no more.
 */
function rebiased(f: FunctionBuilder, from: Address): ReturnType<Shortcut> {
  const bits = f.let(I16x8.load(from));
  const magnitude = f.let(bits.and(I16x8.const(0x7fff)));
  const normal = f.let(magnitude.sub(I16x8.const(113 << 7)).le(I16x8.const((30 << 7) - 1)));
  const isZero = magnitude.eq(I16x8.const(0));
  return {
    applies: normal.or(isZero).allTrue(),
    result: magnitude
      .sub(I16x8.const(112 << 7))
      .shl(3)
      .and(normal)
      .or(bits.and(I16x8.const(0x8000))),
  };
}

/** f32 bits as f16 bits, as `f32BitsToF16` of kernels/f16.ts; lanes of `overflown` are set where a finite number became infinite. */
function roundToF16(f: FunctionBuilder, given: I32x4, overflown: Variable<I32x4>): Variable<I32x4> {
  const bits = f.let(given);
  const magnitude = f.let(bits.and(I32x4.const(0x7fff_ffff)));
  const odd = magnitude.shr(13).and(I32x4.const(1));
  const normal = magnitude
    .add(I32x4.const(0xfff - (112 << 23)))
    .add(odd)
    .shr(13);
  // Adding 0.5 leaves the number in units of 2^-24 in the lowest bits, rounded by the addition.
  const subnormal = magnitude.asF32x4().add(F32x4.const(0.5)).asI32x4().sub(I32x4.const(0x3f00_0000));
  const isSubnormal = magnitude.le(I32x4.const((113 << 23) - 1));
  const number = f.let(isSubnormal.select(subnormal, normal).min(I32x4.const(f16Infinity)));
  const isInfinity = magnitude.eq(I32x4.const(f32Infinity));
  const isNumber = f.let(magnitude.le(I32x4.const(f32Infinity)));
  const became = number.eq(I32x4.const(f16Infinity)).and(isNumber);
  f.set(overflown, overflown.or(isInfinity.select(I32x4.const(0), became)));
  return f.let(
    bits
      .shr(16)
      .and(I32x4.const(0x8000))
      .or(isNumber.select(number, I32x4.const(0x7e00))),
  );
}
