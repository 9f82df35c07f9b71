import type { QuantisedDType } from '../../kernels/dtypes.ts';
import { quote } from '../../kernels/json.ts';
import { ModelError } from '../errors.ts';
import { decodeToF32, type FloatDType, floatDTypes } from '../safetensors/convert.ts';
import type { StoredDType, TensorInfo } from '../safetensors/header.ts';
import type { QuantisedMatrix } from './matrix.ts';

/** A tensor that stands for a part of a matrix: the dtypes and shapes that it may have. */
export interface Part {
  readonly dtypes: readonly StoredDType[];
  readonly shapes: readonly (readonly number[])[];
  /** Whether a matrix may do without it. */
  readonly optional?: true;
}

/** A tensor in memory. */
export interface StoredPart {
  readonly info: TensorInfo;
  /** At the beginning of a buffer. */
  readonly bytes: Uint8Array;
}

/** The tensors of a matrix by the ends of their names, as `QuantisedBuild.parts` names them. */
export type StoredParts = Readonly<Record<string, StoredPart | undefined>>;

/** How a checkpoint holds its matrices in fewer bits. */
export interface QuantisedBuild {
  /** As a person calls it: 'GPTQ, 4 bits in groups of 128'. */
  readonly name: string;
  /** The dtype that holds its numbers best in about as much memory. */
  readonly dtype: QuantisedDType;
  /** The tensors that stand for `<module>.weight`, (outputs, inputs), by what follows the module's name and a point. */
  parts(outputs: number, inputs: number): Readonly<Record<string, Part>>;
  /** @throws ModelError `tensor-mismatch` where the tensors' numbers cannot be meant */
  decode(outputs: number, inputs: number, parts: StoredParts): QuantisedMatrix;
}

/** Where a part may be stored in any of the float dtypes. */
export const anyFloat: readonly FloatDType[] = floatDTypes;

export const wordsOf = ({ bytes }: StoredPart): Uint32Array =>
  new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);

export const floatsOf = ({ info, bytes }: StoredPart): Float32Array => decodeToF32(bytes, info.dtype as FloatDType);

/** A matrix `(rows, columns)` the other way round. */
export function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const turned = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) turned[column * rows + row] = values[row * columns + column]!;
  }
  return turned;
}

/**
 * The group of each input as a tensor has it; undefined where groups are neighbours in order, as nearly always.
 * @throws ModelError `tensor-mismatch`
 */
export function groupIndices(part: StoredPart | undefined, groupSize: number, groups: number): Uint32Array | undefined {
  if (!part) return undefined;
  const groupOf = wordsOf(part);
  const beyond = groupOf.find((group) => group >= groups);
  if (beyond !== undefined) {
    throw new ModelError(
      'tensor-mismatch',
      `tensor ${quote(part.info.name)} must hold numbers of ${groups} groups, but holds ${beyond | 0}.`,
    );
  }
  const inOrder = groupOf.every((group, input) => group === Math.floor(input / groupSize));
  return inOrder ? undefined : groupOf.slice();
}

/** `groups of 128`, or one for each output. */
export const groupsName = (groupSize: number | undefined): string =>
  groupSize === undefined ? 'a scale for each output' : `groups of ${groupSize}`;
