import { isRecord, quote, typeName } from '../../conversation.ts';
import { EvaluationError } from '../../errors.ts';
import type { Label } from './label.ts';

/** The fields of one line of a JSONL file, read by kind; a field that is of another is an error that names the line. */
export class Fields {
  /** What an error message begins with: `line 3`. */
  readonly where: string;
  readonly #record: Readonly<Record<string, unknown>>;

  /** @throws EvaluationError `data-invalid` for a line that is not a JSON object */
  constructor(text: string, where: string) {
    this.where = where;
    let value: unknown;
    try {
      value = parseLine(text.replace(/^\ufeff/, ''));
    } catch (cause) {
      throw new EvaluationError('data-invalid', `${where} is not JSON: ${(cause as Error).message}`, { cause });
    }
    if (!isRecord(value)) {
      throw new EvaluationError('data-invalid', `${where}: expected a JSON object, found ${typeName(value)}`);
    }
    this.#record = value;
  }

  get(name: string): unknown {
    return Object.hasOwn(this.#record, name) ? this.#record[name] : undefined;
  }

  /** A string that must be there. */
  text(name: string): string {
    const value = this.optionalText(name);
    if (value !== undefined) return value;
    throw new EvaluationError('data-invalid', `${this.where}: it has no ${JSON.stringify(name)}, a string`);
  }

  /** A string; undefined where the field is absent or null. */
  optionalText(name: string): string | undefined {
    const value = this.get(name) ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    throw this.#unexpected('data-invalid', name, 'a string');
  }

  /** An id: a string or a number; undefined where the field is absent or null. */
  id(name: string): string | undefined {
    const value = this.get(name) ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    if (typeof value === 'number') return String(value);
    throw this.#unexpected('data-invalid', name, 'a string or a number');
  }

  /** 0 or 1; null where the field is absent, null or NaN: what is not known is not 0. */
  label(name: string): Label | null {
    const value = this.get(name) ?? null;
    if (value === null || value === 0 || value === 1) return value;
    throw this.#unexpected('label-invalid', name, '0, 1 or null');
  }

  /** A finite number; null where the field is absent, null or NaN. */
  number(name: string): number | null {
    const value = this.get(name) ?? null;
    if (value === null || (typeof value === 'number' && Number.isFinite(value))) return value;
    throw this.#unexpected('score-invalid', name, 'a number or null');
  }

  /** One of some words, and what it stands for; null where the field is absent or null. */
  word<T>(name: string, meanings: Readonly<Record<string, T>>): T | null {
    const value = this.get(name) ?? null;
    if (value === null) return null;
    if (typeof value === 'string' && Object.hasOwn(meanings, value)) return meanings[value]!;
    const words = Object.keys(meanings).map((word) => JSON.stringify(word));
    throw this.#unexpected('label-invalid', name, words.join(' or '));
  }

  /** A list of strings; undefined where the field is absent or null. */
  names(name: string): readonly string[] | undefined {
    const value = this.get(name) ?? undefined;
    if (value === undefined) return undefined;
    if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
    throw this.#unexpected('label-invalid', name, 'an array of category names');
  }

  #unexpected(code: EvaluationError['code'], name: string, expected: string): EvaluationError {
    const value = this.get(name);
    const found = typeof value === 'number' || typeof value === 'boolean' ? String(value) : quote(value);
    return new EvaluationError(code, `${this.where}: ${JSON.stringify(name)} is ${expected}, not ${found}`);
  }
}

/** JSON, and the bare NaN that pandas and Python's json write where a label is not known: it reads as null. */
function parseLine(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const withoutNaN = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|\bNaN\b/g, (token) => (token === 'NaN' ? 'null' : token));
    if (withoutNaN === text) throw error;
    return JSON.parse(withoutNaN);
  }
}
