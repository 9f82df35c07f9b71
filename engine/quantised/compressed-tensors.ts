import { z } from 'zod';
import { quote } from '../../kernels/json.ts';
import { flag, object, text, unsupported, validate } from '../config-fields.ts';
import {
  anyFloat,
  floatsOf,
  groupIndices,
  groupsName,
  type Part,
  type QuantisedBuild,
  type StoredPart,
  type StoredParts,
  wordsOf,
} from './build.ts';
import { bitsField, groupSizeField, groupSizeIn, groupsIn, wholeWords } from './fields.ts';
import { type MatrixParts, QuantisedMatrix } from './matrix.ts';

const weights = z.object(
  {
    num_bits: bitsField,
    type: text,
    strategy: text.nullish(),
    group_size: groupSizeField.nullish(),
    symmetric: flag.nullish(),
    actorder: z.union([text, flag], { error: 'must be a string' }).nullish(),
  },
  object,
);

const schema = z.object(
  {
    format: text,
    config_groups: z.record(
      z.string(),
      z.object({ weights: weights.nullish(), format: text.nullish() }, object),
      object,
    ),
    sparsity_config: z.object({ format: text.nullish() }, object).nullish(),
    transform_config: z.record(z.string(), z.unknown(), object).nullish(),
  },
  object,
);

/** How matrices of one format, type and number of bits are stored. */
interface Storage {
  readonly kind: MatrixParts['kind'];
  readonly bits: 4 | 8;
  /** Whether eight or four neighbouring inputs lie in a word, counted from the middle of their range. */
  readonly packed: boolean;
}

const storages: Readonly<Record<string, Storage>> = {
  'int-quantized, int, 8': { kind: 'i8', bits: 8, packed: false },
  'naive-quantized, int, 8': { kind: 'i8', bits: 8, packed: false },
  'pack-quantized, int, 8': { kind: 'i8', bits: 8, packed: true },
  'pack-quantized, int, 4': { kind: 'u4', bits: 4, packed: true },
  'float-quantized, float, 8': { kind: 'f8', bits: 8, packed: false },
  'naive-quantized, float, 8': { kind: 'f8', bits: 8, packed: false },
};

/**
 * Weights as compressed-tensors writes them (llm-compressor), rows as in the model:
 *
 * - `weight` (outputs, inputs): I8, or F8_E4M3; or `weight_packed`, I32 (outputs, inputs * bits / 32), the first of a word's
 *   numbers in its lowest bits, each with half of their range added
 * - `weight_scale`: one, (outputs, 1) or (outputs, groups)
 * - `weight_zero_point`, where they are not symmetric: as the scales, I8; of packed ones I32, packed along the outputs
 * - `weight_g_idx`, I32 (inputs): the group of each input, with `actorder` 'group'
 *
 * What is said of activations and of the cache is left aside: both stay exact here.
 *
 * @throws ModelError `config-invalid`, `architecture-unsupported`
 */
export function compressedTensors(json: unknown, source: string): QuantisedBuild {
  const {
    config_groups: groups,
    sparsity_config: sparsity,
    transform_config: transform,
    ...config
  } = validate(schema, json, source);
  const settings = Object.values(groups).flatMap(({ weights, format }) =>
    weights ? [{ ...weights, format: format ?? config.format }] : [],
  );
  const [first, ...others] = settings;
  if (!first || others.some((other) => JSON.stringify(other) !== JSON.stringify(first))) {
    throw unsupported(
      source,
      `compressed-tensors are read where all matrices are stored in one way, but 'config_groups' has ${settings.length}.`,
    );
  }
  if ((sparsity?.format ?? 'dense') !== 'dense') {
    throw unsupported(source, `'sparsity_config' must be of format 'dense', but is of ${quote(sparsity?.format)}.`);
  }
  if (Object.keys(transform ?? {}).length > 0) {
    throw unsupported(source, "'transform_config' must be absent: turned weights are not read.");
  }
  const { format, type, num_bits: bits } = first;
  const strategy = first.strategy ?? (first.group_size == null ? 'tensor' : first.group_size > 0 ? 'group' : 'channel');
  const storage = storages[`${format}, ${type}, ${bits}`];
  if (!storage || !['tensor', 'channel', 'group'].includes(strategy)) {
    throw unsupported(
      source,
      `of compressed-tensors ${Object.keys(storages).join('; ')} bits are read, with strategy tensor, channel or group, but ` +
        `this is ${format}, ${type}, ${bits} bits, strategy ${quote(strategy)}. Take another build, or the unquantized model.`,
    );
  }
  const groupSize = strategy === 'group' ? groupSizeIn(first.group_size ?? -1, source) : undefined;
  const scattered = ['group', 'dynamic', true].includes(first.actorder ?? false) && groupSize !== undefined;
  return buildOf({ ...storage, source, format, strategy, groupSize, scattered, symmetric: first.symmetric ?? true });
}

interface Settings extends Storage {
  readonly source: string;
  readonly format: string;
  readonly strategy: string;
  readonly groupSize: number | undefined;
  readonly scattered: boolean;
  readonly symmetric: boolean;
}

function buildOf(settings: Settings): QuantisedBuild {
  const { kind, bits, packed, format, strategy, groupSize, scattered } = settings;
  const shared = strategy === 'tensor' ? 'one scale' : groupsName(groupSize);
  return {
    name: `compressed-tensors ${format}, ${bits} bits, ${shared}${scattered ? ' in order of activation' : ''}`,
    dtype: kind === 'u4' && !scattered ? 'q4' : 'q8',
    parts: (outputs, inputs) => partsOf(settings, outputs, inputs),
    decode(outputs, inputs, parts) {
      const groups = groupsIn(inputs, groupSize);
      const quants = (parts.weight_packed ?? parts.weight)!.bytes;
      const rowBytes = (inputs * bits) / 8;
      return new QuantisedMatrix({
        outputs,
        inputs,
        kind,
        groupSize: groupSize ?? inputs,
        groupOf: groupIndices(parts.weight_g_idx, groupSize ?? inputs, groups),
        scales: spread(floatsOf(parts.weight_scale!), outputs * groups),
        zeros: zerosOf(settings, parts, outputs, groups),
        readQuants: (firstOutput, target) => {
          target.set(quants.subarray(firstOutput * rowBytes, firstOutput * rowBytes + target.length));
          // From numbers that half of the range was added to, to signed bytes.
          if (packed && bits === 8) for (let i = 0; i < target.length; i++) target[i]! ^= 0x80;
        },
      });
    },
  };
}

function partsOf(
  { source, kind, bits, packed, strategy, groupSize, scattered, symmetric }: Settings,
  outputs: number,
  inputs: number,
): Record<string, Part> {
  const groups = groupsIn(inputs, groupSize);
  const each = strategy === 'tensor' ? [[1], []] : [[outputs, groups], ...(groups === 1 ? [[outputs]] : [])];
  const weight: Record<string, Part> = packed
    ? { weight_packed: { dtypes: ['I32'], shapes: [[outputs, wholeWords(inputs, bits, source)]] } }
    : { weight: { dtypes: [kind === 'f8' ? 'F8_E4M3' : 'I8'], shapes: [[outputs, inputs]] } };
  const packedZeros = [Math.ceil((outputs * bits) / 32), groups];
  return {
    ...weight,
    weight_scale: { dtypes: anyFloat, shapes: each },
    ...(symmetric
      ? {}
      : {
          weight_zero_point: packed
            ? { dtypes: ['I32', 'I8'], shapes: [packedZeros, ...each] }
            : { dtypes: ['I8'], shapes: each, optional: true },
        }),
    ...(scattered ? { weight_g_idx: { dtypes: ['I32'], shapes: [[inputs]] } } : {}),
  };
}

/** Zero points, (outputs, groups); undefined where all are zero. Those of `u4` count from 0, as its quants do. */
function zerosOf(
  { kind, bits }: Settings,
  { weight_zero_point: part }: StoredParts,
  outputs: number,
  groups: number,
): Float32Array | undefined {
  const zeros = part
    ? spread(signedZeros(part, bits, outputs, groups), outputs * groups)
    : new Float32Array(outputs * groups);
  if (kind === 'u4') return zeros.map((zero) => zero + 8);
  return zeros.some((zero) => zero !== 0) ? zeros : undefined;
}

function signedZeros(part: StoredPart, bits: 4 | 8, outputs: number, groups: number): Float32Array {
  if (part.info.dtype === 'I8') {
    const { buffer, byteOffset, length } = part.bytes;
    return Float32Array.from(new Int8Array(buffer, byteOffset, length));
  }
  const words = wordsOf(part);
  const each = 32 / bits;
  return Float32Array.from({ length: outputs * groups }, (_, i) => {
    const [output, group] = [Math.floor(i / groups), i % groups];
    const word = words[Math.floor(output / each) * groups + group]!;
    return ((word >>> (bits * (output % each))) & (2 ** bits - 1)) - 2 ** (bits - 1);
  });
}

/** One number for all, or all as they are. */
const spread = (values: Float32Array, count: number): Float32Array =>
  values.length === count ? values : new Float32Array(count).fill(values[0]!);
