import { z } from 'zod';
import { quote } from '../../kernels/json.ts';
import { flag, object, text, unsupported, validate } from '../config-fields.ts';
import {
  anyFloat,
  floatsOf,
  groupIndices,
  groupsName,
  type QuantisedBuild,
  type StoredPart,
  transposed,
  wordsOf,
} from './build.ts';
import { bitsField, groupSizeField, groupSizeIn, groupsIn, wholeWords } from './fields.ts';
import { QuantisedMatrix } from './matrix.ts';

const schema = z.object(
  {
    bits: bitsField,
    group_size: groupSizeField,
    desc_act: flag.nullish(),
    static_groups: flag.nullish(),
    checkpoint_format: text.nullish(),
    is_marlin_format: flag.nullish(),
    pack_dtype: text.nullish(),
    dynamic: z.record(z.string(), z.unknown(), object).nullish(),
  },
  object,
);

/**
 * GPTQ (arXiv 2210.17323) in 4 or 8 bits as AutoGPTQ and GPTQModel write it. Matrices lie the other way round than in the
 * model:
 *
 * - `qweight`, I32 (inputs * bits / 32, outputs): neighbouring inputs of an output in a word, the first in the lowest bits
 * - `qzeros`, I32 (groups, outputs * bits / 32): the zero points, less one but for `checkpoint_format` gptq_v2; a zero point
 *   of 0 less one is written as the largest number of so many bits
 * - `scales` (groups, outputs)
 * - `g_idx`, I32 (inputs): the group of each input; with `desc_act` groups were formed in another order than the inputs'
 *
 * @throws ModelError `config-invalid`, `architecture-unsupported`
 */
export function gptq(json: unknown, source: string): QuantisedBuild {
  const config = validate(schema, json, source);
  const { bits, group_size: groupSize, checkpoint_format: format = 'gptq' } = config;
  if (bits !== 4 && bits !== 8) throw unsupported(source, `GPTQ is read in 4 and 8 bits, but 'bits' is ${bits}.`);
  if (config.is_marlin_format || (format !== 'gptq' && format !== 'gptq_v2' && format !== null)) {
    throw unsupported(
      source,
      `of GPTQ the checkpoint formats gptq and gptq_v2 are read, but this is ${config.is_marlin_format ? "'marlin'" : quote(format)}. ` +
        'Take a build in one of those, or the unquantized model.',
    );
  }
  if ((config.pack_dtype ?? 'int32') !== 'int32') {
    throw unsupported(source, `'pack_dtype' must be 'int32', but is ${quote(config.pack_dtype)}.`);
  }
  // Rules that only leave modules out ("-:") show in the tensors.
  const rule = Object.entries(config.dynamic ?? {}).find(([rule]) => !rule.startsWith('-:'))?.[0];
  if (rule !== undefined) {
    throw unsupported(
      source,
      `'dynamic' must not give modules settings of their own, but has the rule ${quote(rule)}.`,
    );
  }
  const stored = { bits, groupSize: groupSizeIn(groupSize, source), zeroOffset: format === 'gptq_v2' ? 0 : 1 } as const;
  const scattered = (config.desc_act ?? false) && !config.static_groups && stored.groupSize !== undefined;
  return {
    name: `GPTQ, ${bits} bits, ${groupsName(stored.groupSize)}${scattered ? ' in order of activation' : ''}`,
    // Groups that are no neighbours cannot be said in blocks: they are quantised anew, and once more in 4 bits costs too much.
    dtype: bits === 4 && !scattered ? 'q4' : 'q8',
    parts: (outputs, inputs) => {
      const groups = groupsIn(inputs, stored.groupSize);
      const [wordsDown, wordsAcross] = [wholeWords(inputs, bits, source), wholeWords(outputs, bits, source)];
      return {
        qweight: { dtypes: ['I32'], shapes: [[wordsDown, outputs]] },
        qzeros: { dtypes: ['I32'], shapes: [[groups, wordsAcross]] },
        scales: { dtypes: anyFloat, shapes: [[groups, outputs]] },
        g_idx: { dtypes: ['I32'], shapes: [[inputs]], optional: true },
      };
    },
    decode(outputs, inputs, { qweight, qzeros, scales, g_idx: order }) {
      const groups = groupsIn(inputs, stored.groupSize);
      const groupSize = stored.groupSize ?? inputs;
      const words = wordsOf(qweight!);
      const middle = bits === 8 ? 128 : 0;
      const zeros = zerosOf(qzeros!, groups, outputs, bits, stored.zeroOffset);
      return new QuantisedMatrix({
        outputs,
        inputs,
        kind: bits === 4 ? 'u4' : 'i8',
        groupSize,
        groupOf: groupIndices(order, groupSize, groups),
        scales: transposed(floatsOf(scales!), groups, outputs),
        zeros: zeros.some((zero) => zero !== middle) ? zeros.map((zero) => zero - middle) : undefined,
        readQuants: (firstOutput, target) => {
          const columns = new Uint32Array(target.buffer, target.byteOffset, target.length / 4);
          transposeColumns(words, outputs, firstOutput, columns);
          // From unsigned to signed bytes.
          if (bits === 8) for (let i = 0; i < columns.length; i++) columns[i]! ^= 0x8080_8080;
        },
      });
    },
  };
}

/** Zero points, (outputs, groups), of which `offset` was taken. */
function zerosOf(part: StoredPart, groups: number, outputs: number, bits: number, offset: number): Float32Array {
  const words = wordsOf(part);
  const each = 32 / bits;
  const mask = 2 ** bits - 1;
  const zeros = new Float32Array(groups * outputs);
  for (let group = 0; group < groups; group++) {
    for (let output = 0; output < outputs; output++) {
      const word = words[group * (outputs / each) + Math.floor(output / each)]!;
      zeros[output * groups + group] = ((word >>> (bits * (output % each))) + offset) & mask;
    }
  }
  return zeros;
}

/** Columns that are turned together: what their words take of each row is a cache line. */
const tile = 16;

/** Neighbouring columns of a matrix of words, from `first` on, one after another in `target`. */
function transposeColumns(words: Uint32Array, columns: number, first: number, target: Uint32Array): void {
  const rows = words.length / columns;
  const last = first + target.length / rows;
  for (let from = first; from < last; from += tile) {
    const to = Math.min(last, from + tile);
    for (let row = 0; row < rows; row++) {
      for (let column = from; column < to; column++) {
        target[(column - first) * rows + row] = words[row * columns + column]!;
      }
    }
  }
}
