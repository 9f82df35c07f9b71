/** Quantised builds of make-model, decoded by plain loops straight from the layouts' descriptions. */
import type { QuantisedFormatName } from '../../bench/make-model/index.ts';
import { floatsOf, type PeerTensor } from './safetensors-peer.ts';

/** A number of a matrix, and the step between the quants around it. */
export interface Decoded {
  readonly value: number;
  readonly step: number;
}

export type Decode = (output: number, input: number) => Decoded;

/** What a module's tensors mean, `part` giving them by what follows its name. */
type Decoder = (part: (name: string) => PeerTensor, outputs: number, inputs: number) => Decode;

export function wordsOf({ dtype, bytes }: PeerTensor): Uint32Array {
  if (dtype !== 'I32') throw new RangeError(`Words must be I32, not ${dtype}.`);
  return new Uint32Array(bytes.slice().buffer);
}

/** Output i of eight is the nibble at places[i], counted from the lowest. */
const awqPlaces = [0, 4, 1, 5, 2, 6, 3, 7];

/** Zero points of AWQ's groups. */
export const awqZero = (qzeros: Uint32Array, outputs: number, group: number, output: number): number =>
  awqNibble(qzeros, outputs, group, output);

const awqNibble = (from: Uint32Array, outputs: number, row: number, output: number) =>
  (from[row * (outputs / 8) + Math.floor(output / 8)]! >>> (4 * awqPlaces[output % 8]!)) & 15;

const compressed =
  (ulpOf: (quant: number) => number): Decoder =>
  (part, _, inputs) => {
    const weight = part('weight');
    const scales = floatsOf(part('weight_scale'));
    const quants = weight.dtype === 'I8' ? Float64Array.from(new Int8Array(weight.bytes)) : floatsOf(weight);
    return (output, input) => {
      const quant = quants[output * inputs + input]!;
      return { value: scales[output]! * quant, step: scales[output]! * ulpOf(quant) };
    };
  };

export const decoders: Readonly<Record<QuantisedFormatName, Decoder>> = {
  gptq(part, outputs) {
    const [qweight, qzeros, groups] = [wordsOf(part('qweight')), wordsOf(part('qzeros')), wordsOf(part('g_idx'))];
    const scales = floatsOf(part('scales'));
    return (output, input) => {
      const quant = (qweight[Math.floor(input / 8) * outputs + output]! >>> (4 * (input % 8))) & 15;
      const group = groups[input]!;
      const zero = ((qzeros[group * (outputs / 8) + Math.floor(output / 8)]! >>> (4 * (output % 8))) + 1) & 15;
      const step = scales[group * outputs + output]!;
      return { value: step * (quant - zero), step };
    };
  },
  awq(part, outputs, inputs) {
    const [qweight, qzeros] = [wordsOf(part('qweight')), wordsOf(part('qzeros'))];
    const scales = floatsOf(part('scales'));
    const groupSize = inputs / (scales.length / outputs);
    return (output, input) => {
      const group = Math.floor(input / groupSize);
      const step = scales[group * outputs + output]!;
      return {
        value: step * (awqNibble(qweight, outputs, input, output) - awqZero(qzeros, outputs, group, output)),
        step,
      };
    };
  },
  'compressed-int8': compressed(() => 1),
  // Neighbours of an f8 are an eighth of its power of two apart, 2^-9 at least.
  'compressed-fp8': compressed((quant) => 2 ** (Math.max(-6, Math.floor(Math.log2(Math.abs(quant)))) - 3)),
};
