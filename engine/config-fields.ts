import { z } from 'zod';
import { quote } from '../kernels/json.ts';
import { ModelError } from './errors.ts';

// The caps are far above any model known; they keep a hostile file from asking for endless work.
export const whole = (min: number, max: number) => {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
};
export const positive = (max: number) => {
  const error = `must be a number above 0 and at most ${max}`;
  return z.number({ error }).positive({ error }).max(max, { error });
};
export const number = z.number({ error: 'must be a number' });
export const flag = z.boolean({ error: 'must be true or false' });
export const text = z.string({ error: 'must be a string' });
export const object = { error: 'must be an object' };

/** @throws ModelError `config-invalid` that names every wrong field of `source` and what it holds */
export function validate<Schema extends z.ZodType>(schema: Schema, json: unknown, source: string): z.infer<Schema> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  // A field that is wrong in several ways is told of once.
  const problems = new Map<string, string>();
  for (const { path, message } of result.error.issues) {
    const field = path.join('.');
    const subject = field ? `'${field}'` : 'it';
    if (!problems.has(field)) problems.set(field, `${subject} ${message}, but is ${quote(valueAt(json, path))}`);
  }
  throw invalid(source, `${[...problems.values()].join('; ')}.`);
}

function valueAt(json: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key], json);
}

/** The error of fields that describe no model. */
export const invalid = (source: string, message: string) => new ModelError('config-invalid', `${source}: ${message}`);

/** The error of a model that is well-formed but that this engine would compute wrongly. */
export const unsupported = (source: string, message: string) =>
  new ModelError('architecture-unsupported', `${source}: ${message}`);
