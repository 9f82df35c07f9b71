import { type QuantisedFormat, rowwise, wordsOf } from './format.ts';
import { FourBitGroups, groupSizeFor, packWords } from './four-bits.ts';

const inOrder = [0, 1, 2, 3, 4, 5, 6, 7];

/** Symmetric, as nearly all published builds are: the zero point is the middle of 0 to 15. */
const symmetric = (smallest: number, largest: number) => ({ scale: (2 * Math.max(-smallest, largest)) / 15, zero: 8 });

/**
 * GPTQ in 4 bits as AutoGPTQ writes it (auto_gptq/nn_modules/qlinear/qlinear_cuda.py), groups in the order of the
 * inputs (`desc_act` false). Matrices lie the other way round than in the model: rows are inputs.
 *
 * - `qweight`, I32 (inputs / 8, outputs): eight inputs of an output in a word, the first in the lowest bits
 * - `qzeros`, I32 (groups, outputs / 8): the zero points minus one, eight outputs in a word
 * - `scales`, F16 (groups, outputs)
 * - `g_idx`, I32 (inputs): the group of each input
 *
 * The quants are the nearest ones, without GPTQ's own correction of errors, which changes no layout.
 */
export function gptq(inputs: readonly number[]): QuantisedFormat {
  const groups = new FourBitGroups(groupSizeFor(inputs), symmetric);
  const { groupSize } = groups;
  const settings = {
    bits: 4,
    group_size: groupSize,
    damp_percent: 0.1,
    desc_act: false,
    static_groups: false,
    sym: true,
    true_sequential: true,
    model_name_or_path: null,
    model_file_base_name: 'model',
    quant_method: 'gptq',
    checkpoint_format: 'gptq',
  };
  return {
    otherDType: 'F16',
    config: settings,
    files: { 'quantize_config.json': settings },
    tensors(module, matrix) {
      const { outputs, inputs } = matrix;
      const group = inputs / groupSize;
      const eight = Array.from({ length: 8 }, () => new Uint8Array(outputs));
      return [
        rowwise({ name: `${module}.qweight`, dtype: 'I32', shape: [inputs / 8, outputs] }, 4, (target, row) => {
          for (const [i, quants] of eight.entries()) groups.quants(matrix, 8 * row + i, quants);
          const words = wordsOf(target);
          for (let output = 0; output < outputs; output++) {
            let packed = 0;
            for (let i = 0; i < 8; i++) packed |= eight[i]![output]! << (4 * i);
            words[output] = packed;
          }
        }),
        rowwise({ name: `${module}.qzeros`, dtype: 'I32', shape: [group, outputs / 8] }, 4, (target, row) => {
          const stored = groups.zeros(matrix, row).map((zero) => zero - 1);
          packWords(stored, inOrder, wordsOf(target));
        }),
        rowwise({ name: `${module}.scales`, dtype: 'F16', shape: [group, outputs] }, 2, (target, row) => {
          target.set(new Uint8Array(groups.scales(matrix, row).buffer));
        }),
        rowwise({ name: `${module}.g_idx`, dtype: 'I32', shape: [inputs] }, 4, (target, row) => {
          wordsOf(target)[0] = Math.floor(row / groupSize);
        }),
      ];
    },
  };
}
