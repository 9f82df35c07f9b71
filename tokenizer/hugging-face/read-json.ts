import type * as z from 'zod';
import { parseJson, quote } from '../../kernels/json.ts';
import { TokenizerError } from '../errors.ts';

/** Far above any in use (Gemma 3's has 33 MB), and small enough to read without thought. */
export const MAX_JSON_BYTES = 64 * 2 ** 20;

/** Those in use are nested 8 levels deep. */
const maxDepth = 32;

/** The error of a file that is broken; `why` completes `FILE: 'FIELD' ` or, without a field, `FILE: it `. */
export const invalid = (file: string, field: string | undefined, why: string, cause?: unknown): TokenizerError =>
  failure('tokenizer-invalid', file, field, why, cause);

/** The error of a file that is whole, and asks for what is not computed here. */
export const unsupported = (file: string, field: string, why: string): TokenizerError =>
  failure('tokenizer-unsupported', file, field, why);

function failure(
  code: 'tokenizer-invalid' | 'tokenizer-unsupported',
  file: string,
  field: string | undefined,
  why: string,
  cause?: unknown,
): TokenizerError {
  const message = `${file}: ${field === undefined ? 'it' : `'${field}'`} ${why}`;
  return new TokenizerError(code, message, cause === undefined ? undefined : { cause });
}

/**
 * Parses a file that a stranger wrote.
 *
 * @throws {TokenizerError} `tokenizer-invalid`, naming file and field
 */
export function readJson<Shape extends z.ZodType>(file: string, bytes: Uint8Array, shape: Shape): z.infer<Shape> {
  if (bytes.length > MAX_JSON_BYTES) {
    throw invalid(file, undefined, `has ${bytes.length} bytes, more than ${MAX_JSON_BYTES}`);
  }
  let json: unknown;
  try {
    json = parseJson(bytes, maxDepth);
  } catch (cause) {
    throw invalid(file, undefined, `is no JSON that can be used: ${(cause as Error).message}`, cause);
  }
  return check(file, json, shape, invalid);
}

/** A value of the shape, or the error that `fail` makes of what is wrong first. */
export function check<Shape extends z.ZodType>(
  file: string,
  value: unknown,
  shape: Shape,
  fail: (file: string, field: string, why: string) => TokenizerError,
): z.infer<Shape> {
  const { success, data, error } = shape.safeParse(value);
  if (success) return data;
  const [issue] = error.issues as [z.core.$ZodIssue];
  const field = issue.path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  const came = issue.path.reduce<unknown>((inner, step) => (inner as Record<PropertyKey, unknown>)?.[step], value);
  throw fail(file, field.replace(/^\./, '') || 'it', `is ${quote(came)}: ${issue.message}`);
}
