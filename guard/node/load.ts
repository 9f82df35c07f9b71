import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseJsonText } from '../../kernels/json.ts';
import { type Calibration, parseCalibration } from '../calibration/calibration.ts';
import { CalibrationError, PolicyError } from '../errors.ts';
import { builtInPolicies } from '../policies/index.ts';
import { type Policy, parsePolicyText } from '../policy.ts';

/** The demonstration model that comes with this package. */
export const embeddedModel = fileURLToPath(new URL('../models/tiny-guard', import.meta.url));

/** Reads and validates a policy file. @throws PolicyError */
export async function readPolicy(file: string): Promise<Policy> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new PolicyError(
      'policy-not-found',
      `The policy file ${file} cannot be read: ${cause.message}; and no built-in policy has that name: there are ${Object.keys(builtInPolicies).join(', ')}.`,
      { cause },
    );
  });
  return parsePolicyText(text, file);
}

/** A policy by the name of a built-in one or by its file. @throws PolicyError */
export async function policyNamed(nameOrFile: string): Promise<Policy> {
  const builtIn = (builtInPolicies as Readonly<Record<string, Policy>>)[nameOrFile];
  return builtIn && Object.hasOwn(builtInPolicies, nameOrFile) ? builtIn : readPolicy(nameOrFile);
}

/** Reads and validates a calibration file. @throws CalibrationError `calibration-not-found`, `calibration-invalid` */
export async function readCalibration(file: string): Promise<Calibration> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new CalibrationError(
      'calibration-not-found',
      `The calibration file ${file} cannot be read: ${cause.message}.`,
      {
        cause,
      },
    );
  });
  let json: unknown;
  try {
    json = parseJsonText(text);
  } catch (cause) {
    throw new CalibrationError('calibration-invalid', `${file} is not JSON: ${(cause as Error).message}.`, { cause });
  }
  return parseCalibration(json, file);
}
