import * as z from 'zod';
import { type WeightDType, weightDTypes } from '../../kernels/contract.ts';
import { CalibrationError } from '../errors.ts';
import type { Role } from '../messages.ts';
import { calibrationMap } from './methods.ts';

/** Raised whenever a field changes its meaning; files of another version are refused, not guessed at. */
export const formatVersion = 1;
export const formatName = 'llama-guard-webgpu calibration';

const hash = z.string().regex(/^[0-9a-f]{64}$/, 'must be a SHA-256 hash: 64 digits of lower-case hexadecimal');
const count = z.number().int().nonnegative();

const part = z.strictObject({
  map: calibrationMap,
  /** From which probability a sample is flagged; where it was chosen on data. */
  threshold: z.strictObject({ rule: z.string(), value: z.number().min(0).max(1) }).optional(),
  /** Labelled samples that it was fitted on, and how many of them are unsafe. */
  samples: count,
  positives: count,
});

const roleCalibration = z.strictObject({
  instruction: hash,
  overall: part,
  /** By code. */
  categories: z.record(z.string(), part),
});

const calibration = z.strictObject({
  format: z.literal(formatName),
  version: z.literal(formatVersion),
  model: z.strictObject({ name: z.string(), hash }),
  dtype: z.enum(weightDTypes),
  policy: hash,
  /** How the category scores came about that its categories were fitted on. */
  categoryMode: z.enum(['none', 'joint', 'single']),
  roles: z.strictObject({ user: roleCalibration.optional(), agent: roleCalibration.optional() }),
  /** The labelled set that it was fitted on a share of, by the hash that its runs have, and how that was drawn. */
  fitted: z.strictObject({ data: hash, seed: count, share: z.number().min(0).max(1) }).optional(),
});

/** The map of one kind of scores, those of the whole policy or of one category, and its threshold. */
export type CalibrationPart = z.infer<typeof part>;
export type RoleCalibration = z.infer<typeof roleCalibration>;
/** What turns a guard's scores into probabilities, by role; of one model, dtype and policy. As it stands in its file. */
export type Calibration = z.infer<typeof calibration>;

/** The weights that scores come from. */
export interface Subject {
  readonly model: { readonly name: string; readonly hash: string };
  readonly dtype: WeightDType;
}

/** The question that scores answer; policy and instruction by their hashes. */
export interface Setting {
  readonly role: Role;
  readonly policy: string;
  readonly instruction: string;
  readonly categoryMode: Calibration['categoryMode'];
}

/**
 * Checks a calibration that came as JSON.
 *
 * @param source what the error message begins with: the file's name
 * @throws CalibrationError `calibration-invalid`, naming every field that is wrong
 */
export function parseCalibration(json: unknown, source: string): Calibration {
  const result = calibration.safeParse(json);
  if (result.success) return result.data;
  const problems = result.error.issues.map(({ path, message }) => `${path.join('.') || 'the file'}: ${message}`);
  throw new CalibrationError('calibration-invalid', `${source}: ${problems.join('; ')}`);
}

/** @throws CalibrationError `calibration-mismatch` for the calibration of another model, or of other weights of it */
export function assertCalibrates({ model, dtype }: Calibration, subject: Subject): void {
  if (model.hash !== subject.model.hash) {
    const [own, other] = [model, subject.model].map(({ name, hash }) => `${name} (${short(hash)})`);
    throw mismatch(`the model ${own}, but this is ${other}`);
  }
  if (dtype !== subject.dtype) throw mismatch(`weights in ${dtype}, but these are in ${subject.dtype}`);
}

/**
 * The part of a calibration that a setting's scores are calibrated by.
 * @throws CalibrationError `calibration-mismatch` where it was fitted to another setting
 */
export function calibrationOf(calibration: Calibration, setting: Setting): RoleCalibration {
  const { policy, roles, categoryMode } = calibration;
  if (policy !== setting.policy) {
    throw mismatch(`the policy ${short(policy)}, but this one is ${short(setting.policy)}`);
  }
  const own = roles[setting.role];
  if (own === undefined) {
    throw mismatch(`the role ${Object.keys(roles).join(', ')}, but the judged one is ${setting.role}`);
  }
  if (own.instruction !== setting.instruction) {
    throw mismatch(
      `the instruction ${short(own.instruction)}, but this one is ${short(setting.instruction)}: its options differ, ` +
        'or the version of this program does',
    );
  }
  const asked = setting.categoryMode;
  if (asked !== 'none' && asked !== categoryMode && Object.keys(own.categories).length > 0) {
    throw mismatch(`category scores that are ${categoryMode}, but ${asked} ones were asked for`);
  }
  return own;
}

const short = (hash: string): string => hash.slice(0, 12);

const mismatch = (difference: string): CalibrationError =>
  new CalibrationError(
    'calibration-mismatch',
    `The calibration was fitted to ${difference}. Its probabilities would mean nothing here: fit another with ` +
      'llama-guard calibrate.',
  );
