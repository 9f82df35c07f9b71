import type { FloatDType } from '../../../engine/safetensors/convert.ts';
import type { PlannedTensor } from '../safetensors.ts';

/** The weights of a projection, `(outputs, inputs)`, any stretch of which can be read. */
export interface Matrix {
  readonly outputs: number;
  readonly inputs: number;
  /** Fills `target` with the elements from `first` on, row by row. */
  read(target: Float32Array, first: number): void;
}

/** A way in which projections are published in fewer bits; one object for one model. */
export interface QuantisedFormat {
  /** How everything else is stored: embeddings, norms, `lm_head`. */
  readonly otherDType: FloatDType;
  /** `quantization_config` of config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Other JSON files beside it, by name. */
  readonly files: Readonly<Record<string, unknown>>;
  /** The tensors that stand for `<module>.weight`. */
  tensors(module: string, matrix: Matrix): PlannedTensor[];
}

/** A tensor whose rows are made one at a time, of elements of so many bytes. */
export function rowwise(
  tensor: Omit<PlannedTensor, 'fillRows'>,
  elementBytes: number,
  fillRow: (target: Uint8Array, row: number) => void,
): PlannedTensor {
  const rowBytes = elementBytes * tensor.shape.slice(1).reduce((product, size) => product * size, 1);
  return {
    ...tensor,
    fillRows(target, firstRow) {
      for (let row = 0; row * rowBytes < target.length; row++) {
        fillRow(target.subarray(row * rowBytes, (row + 1) * rowBytes), firstRow + row);
      }
    },
  };
}

/** Bytes as the 32-bit words that lie there. */
export const wordsOf = (bytes: Uint8Array): Uint32Array =>
  new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
