import { f16ToF32, f32ToF16 } from '../../../kernels/f16.ts';
import type { Matrix } from './format.ts';

/** Chooses a group's scale and zero point, 0 to 15, from its smallest and largest weight; 0 lies between them. */
export type ChooseParameters = (smallest: number, largest: number) => { readonly scale: number; readonly zero: number };

/** Group sizes that 4-bit formats are published with, the usual one first. */
const groupSizes = [128, 64, 32];

/**
 * Inputs that share a scale: 128 as published, fewer where widths were scaled down too far.
 * @throws RangeError where no size divides every projection's inputs
 */
export function groupSizeFor(inputs: readonly number[]): number {
  const found = groupSizes.find((size) => inputs.every((width) => width % size === 0));
  if (!found) {
    throw new RangeError(
      `4-bit formats need projections whose inputs are a multiple of ${groupSizes.at(-1)}, but they have ` +
        `${[...new Set(inputs)].join(', ')}.`,
    );
  }
  return found;
}

/**
 * The 4-bit quants of matrices in groups of inputs: `weight = scale * (quant - zero)`, with one scale and zero point for
 * each output of a group. One group of one matrix is at hand at a time, since tensors are written one after another.
 */
export class FourBitGroups {
  readonly groupSize: number;
  readonly #choose: ChooseParameters;
  #matrix: Matrix | undefined;
  #group = -1;
  #weights = new Float32Array(); // (outputs, groupSize)
  #scales = new Uint16Array(); // f16 bit patterns
  #zeros = new Uint8Array();

  constructor(groupSize: number, choose: ChooseParameters) {
    this.groupSize = groupSize;
    this.#choose = choose;
  }

  /** The scales of a group as f16 bit patterns, one for each output; valid until another group is asked for. */
  scales(matrix: Matrix, group: number): Uint16Array {
    this.#make(matrix, group);
    return this.#scales;
  }

  /** Likewise its zero points, 0 to 15. */
  zeros(matrix: Matrix, group: number): Uint8Array {
    this.#make(matrix, group);
    return this.#zeros;
  }

  /** Fills `target` with the quants of one input, 0 to 15, one for each output. */
  quants(matrix: Matrix, input: number, target: Uint8Array): void {
    this.#make(matrix, Math.floor(input / this.groupSize));
    const place = input % this.groupSize;
    for (let output = 0; output < matrix.outputs; output++) {
      const weight = this.#weights[output * this.groupSize + place]!;
      const quant = Math.round(weight / f16ToF32(this.#scales[output]!)) + this.#zeros[output]!;
      target[output] = Math.min(15, Math.max(0, quant));
    }
  }

  #make(matrix: Matrix, group: number): void {
    if (matrix === this.#matrix && group === this.#group) return;
    const { outputs, inputs } = matrix;
    if (matrix.outputs !== this.#matrix?.outputs) {
      this.#weights = new Float32Array(outputs * this.groupSize);
      this.#scales = new Uint16Array(outputs);
      this.#zeros = new Uint8Array(outputs);
    }
    this.#matrix = matrix;
    this.#group = group;
    for (let output = 0; output < outputs; output++) {
      const own = this.#weights.subarray(output * this.groupSize, (output + 1) * this.groupSize);
      matrix.read(own, output * inputs + group * this.groupSize);
      let smallest = 0;
      let largest = 0;
      for (let i = 0; i < own.length; i++) {
        if (own[i]! < smallest) smallest = own[i]!;
        if (own[i]! > largest) largest = own[i]!;
      }
      const { scale, zero } = this.#choose(smallest, largest);
      this.#scales[output] = f32ToF16(scale);
      this.#zeros[output] = zero;
    }
  }
}

/**
 * Packs eight 4-bit numbers into each word, the one at `order[0]` of the eight in the lowest bits.
 * @param numbers as many times eight as there are words
 */
export function packWords(numbers: Uint8Array, order: readonly number[], words: Uint32Array): void {
  for (let word = 0; word < words.length; word++) {
    let packed = 0;
    for (let i = 0; i < 8; i++) packed |= numbers[word * 8 + order[i]!]! << (4 * i);
    words[word] = packed;
  }
}
