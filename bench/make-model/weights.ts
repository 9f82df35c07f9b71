/**
 * Random weights as a function of a seed, a tensor's name and an element's place alone: any part of any tensor can be
 * made by itself, in any order, in next to no memory.
 */
import type { FloatDType } from '../../engine/safetensors/convert.ts';
import { encodeF16, f16ToF32 } from '../../kernels/f16.ts';

/** What a tensor does decides how large its numbers are. */
export type Role = 'embedding' | 'projection' | 'norm' | 'bias';

export interface Distribution {
  readonly mean: number;
  readonly deviation: number;
}

/**
 * The scale of random weights that keeps activations near 1 through the layers of a model: projections divide by the
 * root of their inputs, norms are near 1, embeddings have deviation 1, and biases are large enough to be missed.
 *
 * @param inputs width of a row
 */
export function distributionOf(role: Role, inputs: number): Distribution {
  switch (role) {
    case 'embedding':
      return { mean: 0, deviation: 1 };
    case 'projection':
      return { mean: 0, deviation: 1 / Math.sqrt(inputs) };
    case 'norm':
      return { mean: 1, deviation: 0.1 };
    case 'bias':
      return { mean: 0, deviation: 0.5 };
  }
}

/** The numbers of one tensor, already rounded to the dtype that they are stored in. */
export interface RandomTensor {
  /** Fills `target` with the elements from `first` on, as they are stored; its bytes begin on an element's boundary. */
  store(target: Uint8Array, first: number): void;
  /** The same numbers. */
  read(target: Float32Array, first: number): void;
}

/** Sums of four bytes: the levels of a bell curve (Irwin and Hall) with mean 510 and variance 4 (256^2 - 1) / 12. */
const levels = 4 * 255 + 1;
const meanLevel = (levels - 1) / 2;
const levelDeviation = Math.sqrt((256 ** 2 - 1) / 3);
/** Counters are 32 bits wide. */
const mostElements = 2 ** 32;

/** @throws RangeError for a seed that is no whole number */
export function randomTensor(
  name: string,
  seed: number,
  { mean, deviation }: Distribution,
  dtype: FloatDType,
): RandomTensor {
  if (!Number.isSafeInteger(seed)) throw new RangeError(`A seed must be a whole number, but is ${seed}.`);
  const numbers = Float32Array.from(
    { length: levels },
    (_, level) => mean + (deviation * (level - meanLevel)) / levelDeviation,
  );
  const bits = encode(numbers, dtype);
  const values = decode(bits, dtype);
  const keys = keysOf(`${seed} ${name}`);
  return {
    store: (target, first) => fill(elementsOf(target, dtype), bits, keys, first),
    read: (target, first) => fill(target, values, keys, first),
  };
}

/** Two 32-bit keys of a text (FNV-1a from two places, Fowler, Noll and Vo). */
function keysOf(text: string): readonly [number, number] {
  const hash = (start: number) =>
    Buffer.from(text).reduce((state, byte) => Math.imul(state ^ byte, 0x0100_0193), start);
  return [hash(0x811c_9dc5 | 0), hash(0x9e37_79b9 | 0)];
}

/**
 * Hashes each element's place with both keys (a mixer of two multiplications, after Wellons' lowbias32) and takes the
 * table's entry at the sum of the hash's bytes.
 */
function fill(
  target: Uint16Array | Uint32Array | Float32Array,
  table: Uint16Array | Uint32Array | Float32Array,
  [outer, inner]: readonly [number, number],
  first: number,
): void {
  if (first + target.length > mostElements) {
    throw new RangeError(`A tensor may have ${mostElements} elements, but this one has ${first + target.length}.`);
  }
  for (let i = 0; i < target.length; i++) {
    let hash = (first + i) ^ outer;
    hash = (Math.imul(hash ^ (hash >>> 16), 0x21f0_aaad) + inner) | 0;
    hash = Math.imul(hash ^ (hash >>> 15), 0x735a_2d97);
    hash ^= hash >>> 15;
    const pairs = (hash & 0x00ff_00ff) + ((hash >>> 8) & 0x00ff_00ff);
    target[i] = table[(pairs & 0xffff) + (pairs >>> 16)]!;
  }
}

/** Bit patterns of numbers, rounded to nearest, ties to even. */
export function encode(values: Float32Array, dtype: FloatDType): Uint16Array | Uint32Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (dtype === 'F32') return bits.slice();
  if (dtype === 'F16') return encodeF16(values);
  return Uint16Array.from(bits, (wide) => (wide + 0x7fff + ((wide >>> 16) & 1)) >>> 16);
}

/** The numbers of bit patterns; exact. */
function decode(bits: Uint16Array | Uint32Array, dtype: FloatDType): Float32Array {
  if (dtype === 'F16') return Float32Array.from(bits, f16ToF32);
  // A bfloat16 is the upper half of an f32.
  return new Float32Array(Uint32Array.from(bits, (pattern) => (dtype === 'BF16' ? pattern << 16 : pattern)).buffer);
}

/** Bytes as the elements that lie there, little-endian as every machine that Node.js runs on. */
export const elementsOf = (bytes: Uint8Array, dtype: FloatDType): Uint16Array | Uint32Array =>
  dtype === 'F32'
    ? new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
    : new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
