import { type QuantisedFormat, rowwise, wordsOf } from './format.ts';
import { FourBitGroups, groupSizeFor, packWords } from './four-bits.ts';

/** Which of eight neighbouring outputs lies in which four bits of a word, from the lowest on. */
const interleaved = [0, 2, 4, 6, 1, 3, 5, 7];

/** With a zero point: 0 to 15 span the smallest to the largest weight. */
const spanning = (smallest: number, largest: number) => {
  const scale = Math.max(largest - smallest, 1e-5) / 15;
  return { scale, zero: Math.min(15, Math.max(0, Math.round(-smallest / scale))) };
};

/**
 * AWQ in 4 bits as AutoAWQ's GEMM version writes it (awq/modules/linear/gemm.py). Matrices lie the other way round than
 * in the model: rows are inputs.
 *
 * - `qweight`, I32 (inputs, outputs / 8): eight outputs of an input in a word, interleaved
 * - `qzeros`, I32 (groups, outputs / 8): the zero points as they are, interleaved alike
 * - `scales`, F16 (groups, outputs)
 *
 * The quants are the nearest ones, without AWQ's search for scales of activations, which changes no layout.
 */
export function awq(inputs: readonly number[]): QuantisedFormat {
  const groups = new FourBitGroups(groupSizeFor(inputs), spanning);
  const { groupSize } = groups;
  return {
    otherDType: 'F16',
    config: {
      bits: 4,
      group_size: groupSize,
      modules_to_not_convert: null,
      quant_method: 'awq',
      version: 'gemm',
      zero_point: true,
    },
    files: {},
    tensors(module, matrix) {
      const { outputs, inputs } = matrix;
      const quants = new Uint8Array(outputs);
      return [
        rowwise({ name: `${module}.qweight`, dtype: 'I32', shape: [inputs, outputs / 8] }, 4, (target, row) => {
          groups.quants(matrix, row, quants);
          packWords(quants, interleaved, wordsOf(target));
        }),
        rowwise(
          { name: `${module}.qzeros`, dtype: 'I32', shape: [inputs / groupSize, outputs / 8] },
          4,
          (target, row) => {
            packWords(groups.zeros(matrix, row), interleaved, wordsOf(target));
          },
        ),
        rowwise({ name: `${module}.scales`, dtype: 'F16', shape: [inputs / groupSize, outputs] }, 2, (target, row) => {
          target.set(new Uint8Array(groups.scales(matrix, row).buffer));
        }),
      ];
    },
  };
}
