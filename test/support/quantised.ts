/** Matrices in the layouts of quantised builds, packed number by number as the formats' descriptions say. */
import fc from 'fast-check';
import { f16ToF32, f32ToF16 } from '../../kernels/f16.ts';
import { seededRandom } from '../../kernels/random.ts';
import type { TensorData } from './model-files.ts';
import { float } from './safetensors-peer.ts';

/** What a matrix is made of: `scale * (quant - zero)`, scale and zero by the group of the input. */
export interface QuantNumbers {
  readonly outputs: number;
  readonly inputs: number;
  readonly quants: readonly (readonly number[])[]; // (outputs, inputs)
  readonly scales: readonly (readonly number[])[]; // (outputs, groups)
  readonly zeros: readonly (readonly number[])[]; // (outputs, groups)
  readonly groupOf: readonly number[]; // (inputs)
}

/** How numbers of a layout are drawn. */
export interface Layout {
  /** `quantization_config`. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Whole numbers from the first to the second. */
  readonly quants: readonly [number, number];
  readonly zeros: readonly [number, number];
  /** Inputs that share a scale; all where it is absent. */
  readonly groupSize?: number;
  /** Whether groups are of inputs from anywhere. */
  readonly scattered?: boolean;
  /** Whether one scale and zero serve all. */
  readonly single?: boolean;
  /** What a quant stands for, where that is another number. */
  readonly value?: (quant: number) => number;
  /** The tensors of a module, by what follows its name and a point. */
  readonly tensors: (numbers: QuantNumbers) => Record<string, TensorData>;
}

export function drawNumbers(
  { quants, zeros, groupSize, scattered, single }: Layout,
  outputs: number,
  inputs: number,
  seed: number,
): QuantNumbers {
  const random = seededRandom(seed);
  const whole = ([from, to]: readonly [number, number]) => from + Math.floor(random() * (to - from + 1));
  const table = (rows: number, columns: number, draw: () => number) =>
    Array.from({ length: rows }, () => Array.from({ length: columns }, draw));
  const groups = groupSize === undefined ? 1 : Math.ceil(inputs / groupSize);
  const same = <T>(rows: readonly T[]) => (single ? rows.map(() => rows[0]!) : rows);
  const groupOf = Array.from({ length: inputs }, (_, input) =>
    groupSize === undefined ? 0 : Math.floor(input / groupSize),
  );
  return {
    outputs,
    inputs,
    quants: table(outputs, inputs, () => whole(quants)),
    // As f16 and bf16 hold them alike: eight significant bits.
    scales: same(table(outputs, groups, () => (128 + whole([0, 127])) * 2 ** -14)),
    zeros: same(table(outputs, groups, () => whole(zeros))),
    groupOf: scattered ? groupOf.sort(() => random() - 0.5) : groupOf,
  };
}

/** The numbers that a matrix means, row by row; exact. */
export const numbersOf = (
  { quants, scales, zeros, groupOf }: QuantNumbers,
  value = (quant: number) => quant,
): Float64Array =>
  Float64Array.from(
    quants.flatMap((row, output) =>
      row.map((quant, input) => {
        const group = groupOf[input]!;
        return scales[output]![group]! * (value(quant) - zeros[output]![group]!);
      }),
    ),
  );

/** Words, each of `32 / bits` of the numbers at the places that are told. */
function words(
  shape: readonly [rows: number, columns: number],
  bits: number,
  numberAt: (row: number, column: number, place: number) => number,
): TensorData {
  const [rows, columns] = shape;
  const packed = new Uint32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      for (let place = 0; place < 32 / bits; place++) {
        const number = numberAt(row, column, place);
        if (!(number >= 0 && number < 2 ** bits)) throw new RangeError(`${number} has no room in ${bits} bits.`);
        packed[row * columns + column]! += number * 2 ** (bits * place);
      }
    }
  }
  return { dtype: 'I32', shape, data: new Uint8Array(packed.buffer) };
}

const floats = (rows: readonly (readonly number[])[], dtype: 'F32' | 'F16' | 'BF16'): TensorData => ({
  dtype,
  shape: [rows.length, rows[0]!.length],
  data: Float32Array.from(rows.flat()),
});

const turned = <T>(rows: readonly (readonly T[])[]): T[][] => rows[0]!.map((_, i) => rows.map((row) => row[i]!));

const signedBytes = (rows: readonly (readonly number[])[]): TensorData => ({
  dtype: 'I8',
  shape: [rows.length, rows[0]!.length],
  data: new Uint8Array(Int8Array.from(rows.flat()).buffer),
});

const order = (groupOf: readonly number[]): TensorData => ({
  dtype: 'I32',
  shape: [groupOf.length],
  data: new Uint8Array(Int32Array.from(groupOf).buffer),
});

export const gptq = (
  bits: 4 | 8,
  options: Pick<Layout, 'groupSize' | 'scattered'> & {
    readonly version?: 1 | 2;
    readonly scales?: 'F16' | 'BF16' | 'F32';
    readonly symmetric?: boolean;
  },
): Layout => {
  const { version = 1, scales: dtype = 'F16', groupSize, scattered, symmetric = false } = options;
  const each = 32 / bits;
  const offset = version === 1 ? 1 : 0;
  const largest = 2 ** bits - 1;
  const middle = 2 ** (bits - 1);
  return {
    ...options,
    config: {
      quant_method: 'gptq',
      bits,
      group_size: groupSize ?? -1,
      desc_act: scattered ?? false,
      sym: symmetric,
      ...(version === 1 ? {} : { checkpoint_format: 'gptq_v2' }),
    },
    quants: [0, 2 ** bits - 1],
    zeros: symmetric ? [middle, middle] : [0, largest],
    tensors: ({ outputs, inputs, quants, scales, zeros, groupOf }) => ({
      qweight: words([inputs / each, outputs], bits, (row, output, place) => quants[output]![row * each + place]!),
      qzeros: words(
        [scales[0]!.length, outputs / each],
        bits,
        (group, column, place) => (zeros[column * each + place]![group]! - offset) & largest,
      ),
      scales: floats(turned(scales), dtype),
      g_idx: order(groupOf),
    }),
  };
};

/** Where output i of eight lies, in steps of four bits. */
const awqPlaces = [0, 4, 1, 5, 2, 6, 3, 7];

export const awq = (options: Pick<Layout, 'groupSize'> = {}): Layout => ({
  ...options,
  config: {
    quant_method: 'awq',
    bits: 4,
    group_size: options.groupSize ?? -1,
    version: 'GEMM',
    zero_point: true,
    modules_to_not_convert: null,
  },
  quants: [0, 15],
  zeros: [0, 15],
  tensors: ({ outputs, inputs, quants, scales, zeros }) => ({
    qweight: words(
      [inputs, outputs / 8],
      4,
      (input, column, place) => quants[column * 8 + awqPlaces.indexOf(place)]![input]!,
    ),
    qzeros: words(
      [scales[0]!.length, outputs / 8],
      4,
      (group, column, place) => zeros[column * 8 + awqPlaces.indexOf(place)]![group]!,
    ),
    scales: floats(turned(scales), 'F16'),
  }),
});

interface CompressedOptions extends Pick<Layout, 'groupSize' | 'scattered' | 'single'> {
  readonly symmetric?: boolean;
}

const compressedConfig = (
  format: string,
  bits: number,
  type: 'int' | 'float',
  { groupSize, scattered, single, symmetric = true }: CompressedOptions,
) => ({
  quant_method: 'compressed-tensors',
  format,
  quantization_status: 'compressed',
  ignore: ['lm_head'],
  kv_cache_scheme: null,
  config_groups: {
    group_0: {
      targets: ['Linear'],
      input_activations: null,
      output_activations: null,
      weights: {
        num_bits: bits,
        type,
        symmetric,
        strategy: single ? 'tensor' : groupSize === undefined ? 'channel' : 'group',
        group_size: groupSize ?? null,
        actorder: scattered ? 'group' : null,
        dynamic: false,
      },
    },
  },
});

/** One scale, or those of all groups. */
const scaleTensor = ({ scales }: QuantNumbers, single?: boolean): TensorData =>
  single ? { dtype: 'F32', shape: [1], data: Float32Array.of(scales[0]![0]!) } : floats(scales, 'BF16');

export const intQuantised = (options: CompressedOptions = {}): Layout => ({
  ...options,
  config: compressedConfig('int-quantized', 8, 'int', options),
  quants: [-128, 127],
  zeros: options.symmetric === false ? [-20, 20] : [0, 0],
  tensors: (numbers) => ({
    weight: signedBytes(numbers.quants),
    weight_scale: scaleTensor(numbers, options.single),
    ...(options.symmetric === false ? { weight_zero_point: signedBytes(numbers.zeros) } : {}),
  }),
});

export const packQuantised = (bits: 4 | 8, options: CompressedOptions = {}): Layout => {
  const half = 2 ** (bits - 1);
  const each = 32 / bits;
  const [symmetric, whole] = [options.symmetric ?? true, [-half, half - 1] as const];
  return {
    ...options,
    config: compressedConfig('pack-quantized', bits, 'int', options),
    quants: whole,
    zeros: symmetric ? [0, 0] : whole,
    tensors: (numbers) => {
      const { outputs, inputs, quants, zeros, groupOf } = numbers;
      const groups = zeros[0]!.length;
      return {
        weight_packed: words(
          [outputs, inputs / each],
          bits,
          (output, column, place) => quants[output]![column * each + place]! + half,
        ),
        weight_scale: scaleTensor(numbers, options.single),
        weight_shape: {
          dtype: 'I64',
          shape: [2],
          data: new Uint8Array(BigInt64Array.of(BigInt(outputs), BigInt(inputs)).buffer),
        },
        ...(symmetric
          ? {}
          : {
              weight_zero_point: words(
                [Math.ceil(outputs / each), groups],
                bits,
                (row, group, place) => (zeros[row * each + place]?.[group] ?? -half) + half,
              ),
            }),
        ...(options.scattered ? { weight_g_idx: order(groupOf) } : {}),
      };
    },
  };
};

export const floatQuantised = (options: CompressedOptions = {}): Layout => ({
  ...options,
  config: compressedConfig('float-quantized', 8, 'float', options),
  quants: [0, 253],
  zeros: [0, 0],
  // Of the 254 patterns of either sign that are numbers.
  value: (quant) => float(patternOf(quant), 4, 3),
  tensors: (numbers) => ({
    weight: {
      dtype: 'F8_E4M3',
      shape: [numbers.outputs, numbers.inputs],
      data: Uint8Array.from(numbers.quants.flat(), patternOf),
    },
    weight_scale: scaleTensor(numbers, options.single),
  }),
});

const patternOf = (quant: number): number => (quant < 127 ? quant : quant + 1);

export const bitsAndBytes = (): Layout => ({
  config: { quant_method: 'bitsandbytes', load_in_8bit: true, load_in_4bit: false, llm_int8_threshold: 6 },
  quants: [-127, 127],
  zeros: [0, 0],
  tensors: ({ outputs, quants, scales }) => ({
    weight: signedBytes(quants),
    SCB: { dtype: 'F32', shape: [outputs], data: Float32Array.from(scales.flat(), (scale) => 127 * scale) },
    weight_format: { dtype: 'U8', shape: [], data: Uint8Array.of(0) },
  }),
});

const groupSizes = fc.constantFrom(undefined, 32, 64, 128);
const flag = fc.boolean();

/** Any layout that is read. */
export const layouts: Readonly<Record<string, fc.Arbitrary<Layout>>> = {
  'GPTQ, 4 bits': fc
    .tuple(
      groupSizes,
      flag,
      fc.constantFrom(1 as const, 2 as const),
      fc.constantFrom('F16' as const, 'BF16' as const, 'F32' as const),
    )
    .map(([groupSize, scattered, version, scales]) => gptq(4, { ...given({ groupSize }), scattered, version, scales })),
  'GPTQ, 8 bits': fc
    .tuple(groupSizes, flag, flag)
    .map(([groupSize, scattered, symmetric]) => gptq(8, { ...given({ groupSize }), scattered, symmetric })),
  AWQ: groupSizes.map((groupSize) => awq(given({ groupSize }))),
  'compressed-tensors, int-quantized': fc
    .tuple(groupSizes, flag, flag)
    .map(([groupSize, symmetric, single]) =>
      intQuantised(single ? { symmetric: true, single } : { ...given({ groupSize }), symmetric }),
    ),
  'compressed-tensors, pack-quantized, 4 bits': fc
    .tuple(groupSizes, flag, flag)
    .map(([groupSize, symmetric, scattered]) =>
      packQuantised(4, { ...given({ groupSize }), symmetric, scattered: scattered && groupSize !== undefined }),
    ),
  'compressed-tensors, pack-quantized, 8 bits': fc
    .tuple(groupSizes, flag)
    .map(([groupSize, symmetric]) => packQuantised(8, { ...given({ groupSize }), symmetric })),
  'compressed-tensors, float-quantized': flag.map((single) => floatQuantised({ single })),
  bitsandbytes: fc.constant(bitsAndBytes()),
};

/** Without the field where it is undefined. */
const given = ({ groupSize }: { groupSize: number | undefined }): Pick<Layout, 'groupSize'> =>
  groupSize === undefined ? {} : { groupSize };

/** A number as f16 holds it. */
export const roundToF16 = (value: number): number => f16ToF32(f32ToF16(value));
