import { f16Infinity, f32Infinity } from '../../kernels/f16.ts';
import { type MemoryType, pageBytes } from '../../kernels/wasm/encoding.ts';
import { type FunctionBuilder, ModuleBuilder, range, type Variable } from '../../kernels/wasm/function.ts';
import { f16ToF32x4 } from '../../kernels/wasm/mathematics.ts';
import { Address, I32 } from '../../kernels/wasm/scalars.ts';
import { F32x4, I16x8, I32x4 } from '../../kernels/wasm/vectors.ts';
import { decodeToF16, type FloatDType } from './convert.ts';
import { bitsPerElement } from './header.ts';

/** `(from, to, count, note)`: converts numbers, a step at a time. */
type Conversion = (from: Pointer, to: Pointer, count: number, note: Pointer) => void;
/** Addresses of 64 bits go into WebAssembly as big integers. */
type Pointer = number | bigint;

/** Numbers of a step; more make the loop cheaper, and the chance larger that one of them has to be rounded. */
const step = { narrow: 32, widen: 8 };

/** Bytes that a buffer takes of a converter's memory: whole pages, with room for the last step of what is widened. */
export const roomOf = (bytes: number): number => Math.ceil((bytes + 4 * step.widen) / pageBytes) * pageBytes;

/**
 * The conversions of convert.ts in WebAssembly SIMD, some ten times as fast, over a memory in which what is to be converted
 * has to lie. In numbers that are not NaN both agree to the bit.
 */
export class Conversions {
  readonly #memory: WebAssembly.Memory;
  readonly #type: MemoryType;
  readonly #noteAddress: number;
  readonly #conversions = new Map<string, Conversion>();

  /** @param noteAddress of four bytes that nothing else uses, in which conversions say how far they came */
  constructor(memory: WebAssembly.Memory, type: MemoryType, noteAddress: number) {
    this.#memory = memory;
    this.#type = type;
    this.#noteAddress = noteAddress;
  }

  /**
   * Rounds numbers to f16, to nearest, ties to even, where they lie; they take the first bytes of `bytes` then, and nothing
   * is written beyond.
   * @returns index of the first finite one that becomes infinite, as `F16Chunk.outOfRange`; those behind it are not
   *   converted then
   */
  toF16(bytes: Uint8Array, dtype: Exclude<FloatDType, 'F16'>): number | undefined {
    const { buffer, byteOffset } = bytes;
    const size = bitsPerElement[dtype] / 8;
    const count = bytes.length / size;
    const whole = count - (count % step.narrow);
    const done = this.#convert(`${dtype} to f16`, byteOffset, byteOffset, whole);
    // The numbers of the step that it ended at, which are as they were, or those that make no whole step.
    const rest = bytes.subarray(size * done, done < whole ? size * (done + step.narrow) : bytes.length);
    const target = new Uint16Array(buffer, byteOffset + 2 * done, rest.length / size);
    const { outOfRange } = decodeToF16(rest, dtype, target);
    return outOfRange === undefined ? undefined : done + outOfRange;
  }

  /** Widens numbers into `target`, which has room for four bytes each, and for the last step; exact. */
  toF32(bytes: Uint8Array, dtype: Exclude<FloatDType, 'F32'>, target: Uint8Array): void {
    this.#convert(`${dtype} to f32`, bytes.byteOffset, target.byteOffset, bytes.length / 2);
  }

  /** How many numbers were converted. */
  #convert(name: string, from: number, to: number, count: number): number {
    const pointer = this.#type.bits === 64 ? BigInt : Number;
    const note = this.#noteAddress;
    this.#conversion(name)(pointer(from), pointer(to), count, pointer(note));
    return new Uint32Array(this.#memory.buffer, note, 1)[0]!;
  }

  #conversion(name: string): Conversion {
    const known = this.#conversions.get(name);
    if (known) return known;
    const module = new ModuleBuilder(this.#type);
    module.define([Address, Address, I32, Address], (f, [from, to, count, note]) => {
      f.store(note, bodies[name]!(f, { from: f.let<Address>(from), to: f.let<Address>(to), count }));
    });
    const compiled = new WebAssembly.Module(module.encode());
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory: this.#memory } });
    const made = exports.run as Conversion;
    this.#conversions.set(name, made);
    return made;
  }
}

/** Conversions over a memory of their own. */
export class SimdConverter extends Conversions {
  readonly #buffer: ArrayBuffer;
  #end = pageBytes;

  /** @param bytes that all buffers together take, by `roomOf` */
  constructor(bytes: number) {
    // Buffers begin a page after the note.
    const pages = (pageBytes + bytes) / pageBytes;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    super(memory, { shared: false, bits: 32 }, 0);
    this.#buffer = memory.buffer;
  }

  /** A part of the memory, which begins on a page: some processors copy several times slower to elsewhere. */
  allocate(bytes: number): Uint8Array<ArrayBuffer> {
    const begin = this.#end;
    this.#end += roomOf(bytes);
    return new Uint8Array(this.#buffer, begin, bytes);
  }

  /** Whether bytes lie in this memory. */
  holds({ buffer }: Uint8Array): boolean {
    return buffer === this.#buffer;
  }
}

interface Given {
  /** Where the next step's numbers are, and where they go. */
  readonly from: Variable<Address>;
  readonly to: Variable<Address>;
  readonly count: I32;
}

/** Returns how many numbers were converted. */
type Body = (f: FunctionBuilder, given: Given) => I32;

const bodies: Readonly<Record<string, Body>> = {
  // A bfloat16 is the upper half of an f32.
  'BF16 to f16': narrowing(2, (from, quad) => I32x4.load16x4(from, 8 * quad).shl(16), rebiased),
  'F32 to f16': narrowing(4, (from, quad) => I32x4.load(from, 16 * quad)),
  'BF16 to f32': widening((_, numbers) => numbers.shl(16).asF32x4()),
  'F16 to f32': widening(f16ToF32x4),
};

/** What a step comes to where its numbers are of a kind that takes no rounding, and whether they all are. */
type Shortcut = (f: FunctionBuilder, from: Address) => { readonly applies: I32; readonly results: readonly I16x8[] };

/**
 * Ends before a step in which a finite number would become infinite; `count` is of whole steps.
 * @param numberBytes of what is narrowed
 * @param load the bits of four f32 numbers of a step
 */
function narrowing(numberBytes: 2 | 4, load: (from: Address, quad: number) => I32x4, shortcut?: Shortcut): Body {
  return (f, { from, to, count }) => {
    const done = f.let(I32.const(0));
    const end = f.let(count);
    f.while(done.lt(end), () => {
      const store = (results: readonly I16x8[]) => {
        for (const [i, result] of results.entries()) f.store(to, result, 16 * i);
        f.advance(from, numberBytes * step.narrow);
        f.advance(to, 2 * step.narrow);
        f.advance(done, step.narrow);
      };
      const round = () => {
        const overflown = f.let(I32x4.const(0));
        const rounded = range(step.narrow / 4).map((quad) => roundToF16(f, load(from, quad), overflown));
        const areIn = overflown.asI16x8().eq(I16x8.const(0)).allTrue();
        const results = range(step.narrow / 8).map((i) => rounded[2 * i]!.narrowUnsigned(rounded[2 * i + 1]!));
        f.if(
          areIn,
          () => store(results),
          () => f.set(end, I32.const(0)),
        );
      };
      const short = shortcut?.(f, from);
      if (short) f.if(short.applies, () => store(short.results), round);
      else round();
    });
    return done;
  };
}

/** The last step may take in, and write, more than `count`. */
function widening(widen: (f: FunctionBuilder, numbers: I32x4) => F32x4): Body {
  return (f, { from, to, count }) => {
    f.for(0, count, step.widen, () => {
      for (const half of [0, 1]) f.store(to, widen(f, f.let(I32x4.load16x4(from, 8 * half))), 16 * half);
      f.advance(from, 2 * step.widen);
      f.advance(to, 4 * step.widen);
    });
    return count;
  };
}

/**
 * Of bfloat16, what f16 has as normal numbers: exponents from 113 to 142, that is. Their seven bits of fraction fit in
 * f16's ten, so that the exponent is counted from elsewhere and no more.
 */
function rebiased(f: FunctionBuilder, from: Address): ReturnType<Shortcut> {
  const numbers = range(step.narrow / 8).map((i) => f.let(I16x8.load(from, 16 * i)));
  // Without the sign, and counted from the smallest on, of which smaller ones are the largest numbers.
  const distances = numbers.map((bits) => bits.shl(1).sub(I16x8.const(113 << 8)));
  return {
    applies: distances
      .reduce((a, b) => a.max(b))
      .le(I16x8.const((30 << 8) - 1))
      .allTrue(),
    results: numbers.map((bits) =>
      bits
        .shl(3)
        .sub(I16x8.const((112 << 10) & 0xffff))
        .or(bits.and(I16x8.const(0x8000))),
    ),
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
