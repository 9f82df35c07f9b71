/** Rows of a checkpoint as a device stores them: converted, quantised, and put between each other. */
import { isQuantised, quantBlock, quantisedFormats, type WeightDType } from '../kernels/contract.ts';
import { quantise } from '../kernels/quantise.ts';
import { hasSimd } from '../kernels/wasm/features.ts';
import { ModelError } from './errors.ts';
import { decodeToF16, decodeToF32, type FloatDType } from './safetensors/convert.ts';
import { bitsPerElement } from './safetensors/header.ts';
import { roomOf, SimdConverter } from './safetensors/simd.ts';

/** Neighbouring rows of one tensor: numbers, or blocks of the device tensor's dtype. */
export type SourceRows = { readonly name: string; readonly count: number } & (
  | { readonly dtype: FloatDType; readonly bytes: Uint8Array }
  | { readonly sections: readonly Uint8Array[] }
);

/** Whether numbers are stored alike in a checkpoint and on a device. */
export const isSame = (stored: FloatDType, dtype: WeightDType): boolean =>
  (stored === 'F16' && dtype === 'f16') || (stored === 'F32' && dtype === 'f32');

const refusal = (name: string, what: string) =>
  new ModelError('dtype-unsupported', `'${name}' holds ${what}. Load the model with dtype f32.`);

/** What is thrown of a tensor that f16 cannot hold. */
export const beyondF16 = (name: string) => refusal(name, 'a number beyond the range of f16 (65,504)');

/** Buffers that are lent at a time at the most; see weight-stream.ts. */
const mostBuffers = 10;

/** Converts rows, in memory that it uses again, and lends buffers to read them into. */
export class RowEncoder {
  readonly #bufferBytes: number;
  readonly #simd: SimdConverter | undefined;
  readonly #spare: Uint8Array[] = [];
  readonly #sections = [new Scratch(), new Scratch()];
  readonly #merged = [new Scratch(), new Scratch()];
  readonly #floats: Scratch;

  /**
   * @param bufferBytes of the largest piece of a tensor
   * @param largestCount of the numbers in a piece
   */
  constructor(bufferBytes: number, largestCount: number, simd: boolean = hasSimd()) {
    this.#bufferBytes = bufferBytes;
    const room = mostBuffers * roomOf(bufferBytes) + roomOf(4 * largestCount);
    this.#simd = simd ? new SimdConverter(room) : undefined;
    this.#floats = new Scratch(this.#simd?.allocate(4 * largestCount));
  }

  /** Memory to read a piece into, which `give` takes back. */
  take(): Uint8Array {
    return this.#spare.pop() ?? this.#simd?.allocate(this.#bufferBytes) ?? new Uint8Array(this.#bufferBytes);
  }

  give(buffers: readonly Uint8Array[]): void {
    this.#spare.push(...buffers);
  }

  /**
   * Rows of one tensor, or of several in turn, in sections as `Backend.writeRows` takes them; valid until others are
   * encoded. The parts' own bytes may be overwritten.
   *
   * @param place where rows that take turns go; memory of the encoder's own by default
   * @throws ModelError `dtype-unsupported` that names the tensor
   */
  encode(parts: readonly SourceRows[], dtype: WeightDType, place?: readonly Uint8Array[]): readonly Uint8Array[] {
    if (parts.length === 1) return this.#convert(parts[0]!, dtype);
    const merged: Uint8Array[] = [];
    for (const [turn, part] of parts.entries()) {
      for (const [i, section] of this.#convert(part, dtype).entries()) {
        merged[i] ??= place?.[i] ?? this.#merged[i]!.bytes(section.length * parts.length);
        interleaveRows(section, merged[i], { rowBytes: section.length / part.count, of: parts.length, turn });
      }
    }
    return merged;
  }

  #convert(part: SourceRows, dtype: WeightDType): readonly Uint8Array[] {
    if ('sections' in part) return part.sections;
    const { name, dtype: stored, bytes } = part;
    if (isSame(stored, dtype)) return [bytes];
    const count = (bytes.length * 8) / bitsPerElement[stored];
    if (dtype === 'f16') {
      const halves = this.#toF16(bytes, stored as Exclude<FloatDType, 'F16'>, count);
      if (halves) return [halves];
      throw beyondF16(name);
    }
    const floats = this.#toF32(bytes, stored, count);
    if (!isQuantised(dtype)) return [floats];
    const { bits, parameters } = quantisedFormats[dtype];
    const quants = this.#sections[0]!.bytes((count * bits) / 8);
    const halves = this.#sections[1]!.bytes((count / quantBlock) * parameters * 2);
    const into = { quants, parameters: new Uint16Array(halves.buffer, 0, halves.length / 2) };
    const values = new Float32Array(floats.buffer, floats.byteOffset, count);
    if (quantise(values, dtype, into) === undefined) return [quants, halves];
    throw refusal(name, `numbers that ${dtype} cannot: NaN, infinities, or far beyond the range of f16 (65,504)`);
  }

  /** Undefined where a number is beyond the range. */
  #toF16(bytes: Uint8Array, stored: Exclude<FloatDType, 'F16'>, count: number): Uint8Array | undefined {
    if (this.#simd) {
      return this.#inside(bytes, (own) =>
        this.#simd!.toF16(own, stored) === undefined ? own.subarray(0, 2 * count) : undefined,
      );
    }
    const target = this.#sections[0]!.bytes(2 * count);
    const { outOfRange } = decodeToF16(bytes, stored, new Uint16Array(target.buffer, 0, count));
    return outOfRange === undefined ? target : undefined;
  }

  #toF32(bytes: Uint8Array, stored: FloatDType, count: number): Uint8Array {
    const target = this.#floats.bytes(4 * count);
    if (this.#simd && stored !== 'F32') {
      this.#inside(bytes, (own) => this.#simd!.toF32(own, stored, target));
    } else {
      decodeToF32(bytes, stored, new Float32Array(target.buffer, target.byteOffset, count));
    }
    return target;
  }

  /** Does something with bytes that lie in the converter's memory, which they are copied to if they do not yet. */
  #inside<Made>(bytes: Uint8Array, make: (own: Uint8Array) => Made): Made {
    if (this.#simd!.holds(bytes)) return make(bytes);
    const buffer = this.take();
    const own = buffer.subarray(0, bytes.length);
    own.set(bytes);
    this.give([buffer]);
    return make(own);
  }
}

/** Puts rows into every `of`-th row of `target`, from row `turn` on. */
function interleaveRows(
  rows: Uint8Array,
  target: Uint8Array,
  { rowBytes, of, turn }: { readonly rowBytes: number; readonly of: number; readonly turn: number },
): void {
  for (let at = 0; at < rows.length; at += rowBytes) {
    target.set(rows.subarray(at, at + rowBytes), at * of + turn * rowBytes);
  }
}

/** Memory that grows to what was asked for most. */
class Scratch {
  #memory: Uint8Array;

  constructor(memory: Uint8Array = new Uint8Array()) {
    this.#memory = memory;
  }

  bytes(count: number): Uint8Array {
    if (this.#memory.length < count) this.#memory = new Uint8Array(count);
    return this.#memory.subarray(0, count);
  }
}
