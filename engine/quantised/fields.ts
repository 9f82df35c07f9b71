import { z } from 'zod';
import { unsupported, whole } from '../config-fields.ts';
import { groupUnit } from './matrix.ts';

export const bitsField = whole(1, 32);
const groupSizeError = 'must be -1 or a whole number above 0';
export const groupSizeField = z
  .number({ error: groupSizeError })
  .int({ error: groupSizeError })
  .refine((size) => size === -1 || (size > 0 && size <= 2 ** 20), { error: groupSizeError });

/**
 * Inputs that share a scale, as `group_size` says; undefined where all do.
 * @throws ModelError `architecture-unsupported`
 */
export function groupSizeIn(given: number, source: string): number | undefined {
  if (given === -1) return undefined;
  if (given % groupUnit === 0) return given;
  throw unsupported(source, `'group_size' must be -1 or a multiple of ${groupUnit}, but is ${given}.`);
}

export const groupsIn = (inputs: number, groupSize: number | undefined): number =>
  groupSize === undefined ? 1 : Math.ceil(inputs / groupSize);

/** Words of 32 bits that so many numbers fill. @throws ModelError `architecture-unsupported` where some are left */
export function wholeWords(numbers: number, bits: number, source: string): number {
  const words = (numbers * bits) / 32;
  if (Number.isInteger(words)) return words;
  throw unsupported(
    source,
    `matrices in ${bits} bits must have a multiple of ${32 / bits} inputs and outputs, but one has ${numbers}.`,
  );
}
