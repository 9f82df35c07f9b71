import type { StoredDType } from '../../../engine/safetensors/header.ts';
import { encode } from '../weights.ts';
import { type Matrix, type QuantisedFormat, rowwise } from './format.ts';

/** The largest f8 of the kind E4M3 (OCP 8-bit floating point, without infinities). */
const largestF8 = 448;

/**
 * The E4M3 bit pattern nearest to a number, ties to even, at most `largestF8` in magnitude: 4 bits of exponent (bias 7),
 * 3 of fraction, subnormals in steps of 2^-9.
 */
export function toF8E4M3(value: number): number {
  const sign = value < 0 ? 0x80 : 0;
  // In steps of the smallest subnormal. What has more than four bits before the point loses those beyond.
  const steps = Math.min(Math.abs(value), largestF8) * 2 ** 9;
  const shift = Math.max(0, 28 - Math.clz32(steps));
  // A fraction that was rounded up to 16 carries into the exponent.
  return sign | ((shift << 3) + roundHalfEven(steps / (1 << shift)));
}

function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

interface Scheme {
  readonly format: 'int-quantized' | 'float-quantized';
  readonly dtype: StoredDType;
  readonly type: 'int' | 'float';
  /** The number that an output's largest magnitude is stored as. */
  readonly range: number;
  readonly encode: (value: number) => number;
}

const int8: Scheme = {
  format: 'int-quantized',
  dtype: 'I8',
  type: 'int',
  // Half of the span of -128 to 127.
  range: 127.5,
  encode: (value) => Math.max(-128, Math.min(127, roundHalfEven(value))) & 0xff,
};

const fp8: Scheme = { format: 'float-quantized', dtype: 'F8_E4M3', type: 'float', range: largestF8, encode: toF8E4M3 };

/**
 * 8-bit weights as compressed-tensors writes them (compressors/naive_quantized), with a scale for each output and
 * activations that are quantised while computing:
 *
 * - `weight`, I8 or F8_E4M3 (outputs, inputs)
 * - `weight_scale`, BF16 (outputs, 1): `weight = scale * quant`
 */
function compressed({ format, dtype, type, range, encode: quantise }: Scheme): QuantisedFormat {
  const shared = { actorder: null, block_structure: null, group_size: null, num_bits: 8, symmetric: true, type };
  return {
    otherDType: 'BF16',
    config: {
      config_groups: {
        group_0: {
          input_activations: { ...shared, dynamic: true, observer: null, observer_kwargs: {}, strategy: 'token' },
          output_activations: null,
          targets: ['Linear'],
          weights: { ...shared, dynamic: false, observer: 'minmax', observer_kwargs: {}, strategy: 'channel' },
        },
      },
      format,
      global_compression_ratio: null,
      ignore: ['lm_head'],
      kv_cache_scheme: null,
      quant_method: 'compressed-tensors',
      quantization_status: 'compressed',
    },
    files: {},
    tensors(module, matrix) {
      const { outputs, inputs } = matrix;
      const weights = new Float32Array(inputs);
      return [
        rowwise({ name: `${module}.weight`, dtype, shape: [outputs, inputs] }, 1, (target, row) => {
          const scale = scaleOf(matrix, row, weights, range);
          for (let i = 0; i < inputs; i++) target[i] = quantise(weights[i]! / scale);
        }),
        rowwise({ name: `${module}.weight_scale`, dtype: 'BF16', shape: [outputs, 1] }, 2, (target, row) => {
          const scale = Float32Array.of(scaleOf(matrix, row, weights, range));
          target.set(new Uint8Array(encode(scale, 'BF16').buffer));
        }),
      ];
    },
  };
}

export const compressedInt8 = (): QuantisedFormat => compressed(int8);
export const compressedFp8 = (): QuantisedFormat => compressed(fp8);

/** Reads an output's weights and gives their scale, as it is stored: a bfloat16. */
function scaleOf(matrix: Matrix, output: number, weights: Float32Array, range: number): number {
  matrix.read(weights, output * matrix.inputs);
  let largest = 0;
  for (let i = 0; i < weights.length; i++) largest = Math.max(largest, Math.abs(weights[i]!));
  const [bits = 0] = encode(Float32Array.of(largest / range), 'BF16');
  return new Float32Array(Uint32Array.of(bits << 16).buffer)[0]!;
}
