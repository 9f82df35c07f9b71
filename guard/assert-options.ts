/** What programs without types may get wrong in the options and requests that they hand over. */
import { isRecord, quote, typeName } from './conversation.ts';
import { ConversationError, OptionError } from './errors.ts';
import { type CheckOptions, type CheckRequest, categoryModes } from './options.ts';
import { details } from './policy.ts';

/** @throws OptionError `option-invalid` for what was given and is none of the choices */
export function assertOneOf(option: string, value: unknown, choices: readonly string[]): void {
  if (value === undefined || choices.includes(value as string)) return;
  throw new OptionError('option-invalid', `'${option}' must be ${choices.join(', ')}, but is ${quote(value)}.`);
}

/** @throws OptionError `option-invalid` for options that are no object, or whose signal is none */
export function assertOptions(options: unknown): void {
  if (!isRecord(options)) {
    throw new OptionError('option-invalid', `Options are an object, not ${typeName(options)}.`);
  }
  const { signal } = options;
  // Another window's signal is none of this one's class.
  if (signal === undefined || (isRecord(signal) && typeof signal.throwIfAborted === 'function')) return;
  throw new OptionError('option-invalid', `'signal' must be an AbortSignal, but is ${typeName(signal)}.`);
}

/** Those that make sense or not by themselves, whatever the guard. @throws OptionError `option-invalid` */
export function assertCheckOptions(options: CheckOptions): void {
  assertOptions(options);
  const { detail, categories, threshold } = options;
  assertOneOf('detail', detail, details);
  assertOneOf('categories', categories, categoryModes);
  if (threshold !== undefined && !(typeof threshold === 'number' && threshold >= 0 && threshold <= 1)) {
    throw new OptionError('option-invalid', `'threshold' must be a number from 0 to 1, but is ${shown(threshold)}.`);
  }
}

/** @throws OptionError `option-invalid` */
export function assertCount(option: string, value: unknown): void {
  if (Number.isInteger(value) && (value as number) > 0) return;
  throw new OptionError('option-invalid', `'${option}' must be a positive whole number, but is ${shown(value)}.`);
}

/** @throws ConversationError `conversation-invalid` for what no requests can be taken from */
export function assertRequests(requests: unknown): void {
  const list = typeof requests === 'object' && requests !== null ? requests : {};
  if (Symbol.asyncIterator in list || Symbol.iterator in list) return;
  throw new ConversationError('conversation-invalid', `requests are a list or a stream, not ${typeName(requests)}`);
}

/** @throws ConversationError `conversation-invalid` for what is no request; its parts are for the check to judge */
export function assertRequest(request: unknown): asserts request is CheckRequest<unknown> {
  if (isRecord(request)) return;
  const found = typeName(request);
  throw new ConversationError(
    'conversation-invalid',
    `a request is an object {"id"?, "role"?, "messages"}, not ${found}`,
  );
}

const shown = (value: unknown): string => (typeof value === 'number' ? String(value) : quote(value));
