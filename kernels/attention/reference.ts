import type { Reference } from '../cpu.ts';
import type { attention } from './index.ts';

type Contract = typeof attention;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { queries, keys, values, sequences, spans, out },
  { heads, keyValueHeads, headDim, sequences: sequenceCount },
  { window },
) => {
  const sums = new Float64Array(headDim);
  for (let sequence = 0; sequence < sequenceCount; sequence++) {
    const at = 5 * sequence;
    const [firstRow, rowCount, firstPosition] = [sequences[at]!, sequences[at + 1]!, sequences[at + 2]!];
    const slots = slotsOf(spans, sequences[at + 3]!, sequences[at + 4]!);
    const weights = new Float64Array(slots.length);
    for (let n = 0; n < rowCount; n++) {
      const position = firstPosition + n;
      const oldest = Math.max(0, position + 1 - window);
      for (let head = 0; head < heads; head++) {
        const query = ((firstRow + n) * heads + head) * headDim;
        const group = Math.floor(head / (heads / keyValueHeads));

        let largest = Number.NEGATIVE_INFINITY;
        for (let j = oldest; j <= position; j++) {
          const key = (slots[j]! * keyValueHeads + group) * headDim;
          let score = 0;
          for (let i = 0; i < headDim; i++) score += queries[query + i]! * keys[key + i]!;
          weights[j] = score / Math.sqrt(headDim);
          largest = Math.max(largest, weights[j]!);
        }
        let total = 0;
        sums.fill(0);
        for (let j = oldest; j <= position; j++) {
          const value = (slots[j]! * keyValueHeads + group) * headDim;
          const weight = Math.exp(weights[j]! - largest);
          total += weight;
          for (let i = 0; i < headDim; i++) sums[i]! += weight * values[value + i]!;
        }
        for (let i = 0; i < headDim; i++) out[query + i] = sums[i]! / total;
      }
    }
  }
};

/** The slots of a sequence's context, in order. */
function slotsOf(spans: Uint32Array, firstSpan: number, spanCount: number): Uint32Array {
  const slots: number[] = [];
  for (let span = firstSpan; span < firstSpan + spanCount; span++) {
    for (let n = 0; n < spans[2 * span + 1]!; n++) slots.push(spans[2 * span]! + n);
  }
  return Uint32Array.from(slots);
}
