/**
 * Matrices of quantised checkpoints, whatever their format, once their tensors are in memory: quants and what numbers come
 * of them, and the blocks that the engine's own dtypes have.
 */
import { type QuantisedDType, quantBlock } from '../../kernels/dtypes.ts';
import { f16Infinity, f32ToF16 } from '../../kernels/f16.ts';
import { type QuantisedRows, quantise } from '../../kernels/quantise.ts';
import { f8Values } from './f8.ts';

/** Groups of inputs are whole blocks of the engine's dtypes. */
export const groupUnit = quantBlock;

export interface MatrixParts {
  readonly outputs: number;
  readonly inputs: number;
  /**
   * How quants are held: `u4` from 0 to 15, two a byte with the first in the low half; `i8` signed bytes; `f8` floating-point
   * numbers of the kind E4M3.
   */
  readonly kind: 'u4' | 'i8' | 'f8';
  /** Inputs that share a scale, a multiple of `groupUnit`; the last group may be shorter. */
  readonly groupSize: number;
  /** The group of each input, where groups are no neighbours. */
  readonly groupOf?: Uint32Array | undefined; // (inputs)
  readonly scales: Float32Array; // (outputs, groups)
  /** What quants are counted from; zero where it is absent. */
  readonly zeros?: Float32Array | undefined; // (outputs, groups)
  /** Puts the quants of neighbouring outputs into `target`, (as many outputs as it holds, inputs). */
  readonly readQuants: (firstOutput: number, target: Uint8Array) => void;
}

/** A matrix `(outputs, inputs)` whose numbers are `scale * (quant - zero)`, with a scale and a zero for each group of inputs. */
export class QuantisedMatrix {
  readonly outputs: number;
  readonly inputs: number;
  readonly #parts: MatrixParts;
  readonly #groups: number;
  #quants = new Uint8Array();
  #floats = new Float32Array();

  constructor(parts: MatrixParts) {
    this.outputs = parts.outputs;
    this.inputs = parts.inputs;
    this.#parts = parts;
    this.#groups = parts.scales.length / parts.outputs;
  }

  /** The numbers of neighbouring outputs, as many as `target` holds, rounded once to f32. */
  readFloats(firstOutput: number, target: Float32Array): void {
    const { inputs } = this;
    const { kind, groupOf, readQuants } = this.#parts;
    const quantBytes = kind === 'u4' ? target.length / 2 : target.length;
    if (this.#quants.length < quantBytes) this.#quants = new Uint8Array(quantBytes);
    const quants = this.#quants.subarray(0, quantBytes);
    readQuants(firstOutput, quants);
    for (let start = 0; start < target.length; start += inputs) {
      const output = firstOutput + start / inputs;
      if (groupOf) this.#decodeScattered(quants, start, output, groupOf, target);
      else this.#decodeGroups(quants, start, output, target);
    }
  }

  /**
   * Neighbouring outputs in blocks of `dtype`, as many as `into` holds. Quants are taken over as they are where the blocks
   * can say the same: `u4` in groups of neighbours as q4, `i8` without zeros as q8; what is lost is that scale and minimum
   * are rounded to f16, if they are of more bits. Others are quantised anew.
   *
   * @returns whether the dtype can hold the numbers
   */
  readBlocks(firstOutput: number, dtype: QuantisedDType, into: QuantisedRows): boolean {
    const { kind, groupOf, zeros, readQuants } = this.#parts;
    if (!groupOf && kind === 'u4' && dtype === 'q4') {
      readQuants(firstOutput, into.quants);
      return this.#writeParameters(firstOutput, into.parameters, 2);
    }
    if (!groupOf && kind === 'i8' && !zeros && dtype === 'q8') {
      readQuants(firstOutput, into.quants);
      return this.#writeParameters(firstOutput, into.parameters, 1);
    }
    const count = into.quants.length * (dtype === 'q4' ? 2 : 1);
    if (this.#floats.length < count) this.#floats = new Float32Array(count);
    const floats = this.#floats.subarray(0, count);
    this.readFloats(firstOutput, floats);
    return quantise(floats, dtype, into) === undefined;
  }

  /** The parameters of whole rows of blocks, scale and minimum or the scale alone. */
  #writeParameters(firstOutput: number, parameters: Uint16Array, each: 1 | 2): boolean {
    const { groupSize, scales, zeros } = this.#parts;
    const blocksPerGroup = groupSize / quantBlock;
    const blocks = this.inputs / quantBlock;
    let at = 0;
    let group = firstOutput * this.#groups;
    let fits = true;
    while (at < parameters.length) {
      for (let block = 0; block < blocks; group++) {
        const scale = f32ToF16(scales[group]!);
        const minimum = each === 2 ? f32ToF16(-scales[group]! * (zeros?.[group] ?? 0)) : 0;
        fits &&= (scale & 0x7fff) < f16Infinity && (minimum & 0x7fff) < f16Infinity;
        for (const end = Math.min(blocks, block + blocksPerGroup); block < end; block++) {
          parameters[at++] = scale;
          if (each === 2) parameters[at++] = minimum;
        }
      }
    }
    return fits;
  }

  #decodeGroups(quants: Uint8Array, start: number, output: number, target: Float32Array): void {
    const { kind, groupSize, scales, zeros } = this.#parts;
    const end = start + this.inputs;
    let group = output * this.#groups;
    for (let from = start; from < end; from += groupSize, group++) {
      const to = Math.min(end, from + groupSize);
      const scale = scales[group]!;
      const zero = zeros?.[group] ?? 0;
      if (kind === 'u4') {
        for (let i = from; i < to; i += 2) {
          const pair = quants[i / 2]!;
          target[i] = scale * ((pair & 15) - zero);
          target[i + 1] = scale * ((pair >> 4) - zero);
        }
      } else if (kind === 'i8') {
        for (let i = from; i < to; i++) target[i] = scale * (((quants[i]! << 24) >> 24) - zero);
      } else {
        for (let i = from; i < to; i++) target[i] = scale * (f8Values[quants[i]!]! - zero);
      }
    }
  }

  #decodeScattered(
    quants: Uint8Array,
    start: number,
    output: number,
    groupOf: Uint32Array,
    target: Float32Array,
  ): void {
    const { kind, scales, zeros } = this.#parts;
    const first = output * this.#groups;
    for (let input = 0; input < groupOf.length; input++) {
      const i = start + input;
      const group = first + groupOf[input]!;
      const quant =
        kind === 'u4'
          ? (quants[i >> 1]! >> (4 * (i & 1))) & 15
          : kind === 'i8'
            ? (quants[i]! << 24) >> 24
            : f8Values[quants[i]!]!;
      target[i] = scales[group]! * (quant - (zeros?.[group] ?? 0));
    }
  }
}
