import { z } from 'zod';
import { quote } from '../../kernels/json.ts';
import { flag, object, text, unsupported, validate } from '../config-fields.ts';
import { anyFloat, floatsOf, groupsName, type QuantisedBuild, transposed, wordsOf } from './build.ts';
import { bitsField, groupSizeField, groupSizeIn, groupsIn, wholeWords } from './fields.ts';
import { QuantisedMatrix } from './matrix.ts';

const schema = z.object(
  { bits: bitsField, group_size: groupSizeField, version: text.nullish(), zero_point: flag.nullish() },
  object,
);

/** The outputs of a word, from its lowest four bits on. */
const order = [0, 2, 4, 6, 1, 3, 5, 7];
const perWord = 8;

/**
 * AWQ (arXiv 2306.00978) in 4 bits as AutoAWQ's version GEMM writes it. Matrices lie the other way round than in the model:
 *
 * - `qweight`, I32 (inputs, outputs / 8): eight outputs of an input in a word, in the order of `order`
 * - `qzeros`, I32 (groups, outputs / 8): the zero points, likewise
 * - `scales` (groups, outputs)
 *
 * @throws ModelError `config-invalid`, `architecture-unsupported`
 */
export function awq(json: unknown, source: string): QuantisedBuild {
  const config = validate(schema, json, source);
  if (config.bits !== 4) throw unsupported(source, `AWQ is read in 4 bits, but 'bits' is ${config.bits}.`);
  const version = (config.version ?? 'gemm').toLowerCase();
  if (version !== 'gemm' || config.zero_point === false) {
    throw unsupported(
      source,
      `of AWQ version 'gemm' with zero points is read, but this is ${quote(version)}` +
        `${config.zero_point === false ? ' without' : ''}. Take a build in that version, or the unquantized model.`,
    );
  }
  const groupSize = groupSizeIn(config.group_size, source);
  return {
    name: `AWQ, 4 bits, ${groupsName(groupSize)}`,
    dtype: 'q4',
    parts: (outputs, inputs) => {
      const [groups, words] = [groupsIn(inputs, groupSize), wholeWords(outputs, 4, source)];
      // They are turned in squares of eight.
      wholeWords(inputs, 4, source);
      return {
        qweight: { dtypes: ['I32'], shapes: [[inputs, words]] },
        qzeros: { dtypes: ['I32'], shapes: [[groups, words]] },
        scales: { dtypes: anyFloat, shapes: [[groups, outputs]] },
      };
    },
    decode(outputs, inputs, { qweight, qzeros, scales }) {
      const groups = groupsIn(inputs, groupSize);
      const words = wordsOf(qweight!);
      return new QuantisedMatrix({
        outputs,
        inputs,
        kind: 'u4',
        groupSize: groupSize ?? inputs,
        scales: transposed(floatsOf(scales!), groups, outputs),
        zeros: zerosOf(wordsOf(qzeros!), groups, outputs),
        readQuants: (firstOutput, target) => {
          turnColumns(
            words,
            outputs / perWord,
            firstOutput,
            new Uint32Array(target.buffer, target.byteOffset, target.length / 4),
            inputs,
          );
        },
      });
    },
  };
}

/** Zero points, (outputs, groups). */
function zerosOf(words: Uint32Array, groups: number, outputs: number): Float32Array {
  const zeros = new Float32Array(groups * outputs);
  words.forEach((word, i) => {
    const group = Math.floor(i / (outputs / perWord));
    const first = (i % (outputs / perWord)) * perWord;
    for (const [place, output] of order.entries()) {
      zeros[(first + output) * groups + group] = (word >>> (4 * place)) & 15;
    }
  });
  return zeros;
}

/**
 * Neighbouring outputs, from `first` on, one after another in `target`, eight inputs a word with the first in the lowest
 * bits: eight words of eight outputs at a time are an 8 by 8 matrix of four-bit numbers, which is turned in three steps.
 *
 * @param columns words of a row of `words`
 */
function turnColumns(words: Uint32Array, columns: number, first: number, target: Uint32Array, inputs: number): void {
  const rowWords = inputs / perWord;
  const last = first + target.length / rowWords;
  const eight = new Uint32Array(perWord);
  for (let column = Math.floor(first / perWord); column * perWord < last; column++) {
    for (let at = 0; at < rowWords; at++) {
      for (let i = 0; i < perWord; i++) eight[i] = words[(at * perWord + i) * columns + column]!;
      turn(eight);
      for (let place = 0; place < perWord; place++) {
        const output = column * perWord + order[place]!;
        if (output >= first && output < last) target[(output - first) * rowWords + at] = eight[place]!;
      }
    }
  }
}

/** Turns an 8 by 8 matrix of four-bit numbers, a row a word: number i of word j becomes number j of word i. */
function turn(words: Uint32Array): void {
  for (const [distance, mask] of steps) {
    const shift = 4 * distance;
    for (let i = 0; i < perWord; i++) {
      if (i & distance) continue;
      const upper = words[i]!;
      const lower = words[i + distance]!;
      const swapped = ((upper >>> shift) ^ lower) & mask;
      words[i] = upper ^ (swapped << shift);
      words[i + distance] = lower ^ swapped;
    }
  }
}

/** Of blocks so far apart, the numbers of a word's lower halves. */
const steps = [
  [4, 0x0000_ffff],
  [2, 0x00ff_00ff],
  [1, 0x0f0f_0f0f],
] as const;
