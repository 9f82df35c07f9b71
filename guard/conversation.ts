import { parseJsonText } from '../kernels/json.ts';
import { ConversationError } from './errors.ts';
import type { Role, Speaker, Turn } from './messages.ts';
import type { CheckRequest, Conversation } from './options.ts';
import type { Policy } from './policy.ts';

/**
 * Turns a list of messages, or a string that stands for one user message, into turns.
 *
 * @throws ConversationError `conversation-invalid` (names the message), `conversation-empty`, `role-unsupported`
 */
export function parseConversation(value: unknown, policy: Pick<Policy, 'roles'>): Turn[] {
  if (typeof value === 'string') return [{ speaker: 'User', text: value, messageIndex: 0 }];
  if (!Array.isArray(value)) {
    throw new ConversationError(
      'conversation-invalid',
      `a conversation is an array of messages {"role", "content"} or a string, not ${typeName(value)}`,
    );
  }
  if (value.length === 0) {
    throw new ConversationError('conversation-empty', 'the conversation holds no message: there is nothing to judge');
  }
  // Array.from visits the holes of a sparse array, which map would skip.
  return Array.from(value, (message: unknown, messageIndex) => parseMessage(message, messageIndex, policy));
}

/** Who spoke last; the role that is judged when none is named. Only an empty list has no last speaker. */
export function lastSpeaker(turns: readonly Turn[]): Role {
  const last = turns.at(-1);
  if (last === undefined) {
    throw new ConversationError('conversation-empty', 'a conversation without turns has no last speaker');
  }
  return last.speaker === 'User' ? 'user' : 'agent';
}

/**
 * Reads one JSONL line: an array of messages, or `{"id"?, "role"?, "messages": [...]}` whose other fields (the labels of
 * an evaluation set, say) are ignored. The messages are checked when they are judged, so that bad ones can be answered by
 * their `id`, which may be any JSON value.
 *
 * @param lineNumber from 1; a byte order mark is skipped on the first line
 * @throws ConversationError `json-invalid` for what is not such a line, `role-unsupported` for its `role`
 */
export function parseJsonLine(line: string, lineNumber: number): CheckRequest<unknown> {
  let value: unknown;
  try {
    value = lineNumber === 1 ? parseJsonText(line) : JSON.parse(line);
  } catch (cause) {
    throw new ConversationError('json-invalid', `line ${lineNumber} is not JSON: ${(cause as Error).message}`, {
      cause,
    });
  }
  return requestOf(value, `line ${lineNumber}`);
}

/**
 * The same of a line that was parsed, or of a file that holds one.
 * @param where what the error message begins with
 * @throws ConversationError `json-invalid`, `role-unsupported`
 */
export function requestOf(value: unknown, where: string): CheckRequest<unknown> {
  if (Array.isArray(value)) return { messages: value as Conversation };
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, 'messages')) {
    const found = isRecord(value) ? 'an object without "messages"' : typeName(value);
    throw new ConversationError(
      'json-invalid',
      `${where}: expected an array of messages or {"id"?, "role"?, "messages": [...]}, found ${found}`,
    );
  }
  const { id, role, messages } = value as Record<string, unknown>;
  return {
    messages: messages as Conversation,
    ...(id === undefined ? {} : { id }),
    ...(role === undefined || role === null ? {} : { role: parseRole(role, where) }),
  };
}

/**
 * Reads the name of a judged role: `user`, `agent`, or `assistant` for the latter.
 *
 * @param where what the message begins with, e.g. `line 3` or `--role`
 * @throws ConversationError `role-unsupported`
 */
export function parseRole(value: unknown, where: string): Role {
  if (value === 'user') return 'user';
  if (value === 'agent' || value === 'assistant') return 'agent';
  throw new ConversationError(
    'role-unsupported',
    `${where}: the role that is judged is "user" or "agent", not ${quote(value)}`,
  );
}

function parseMessage(message: unknown, messageIndex: number, policy: Pick<Policy, 'roles'>): Turn {
  const where = `messages[${messageIndex}]`;
  if (!isRecord(message)) {
    throw new ConversationError(
      'conversation-invalid',
      `${where}: a message is an object {"role", "content"}, not ${typeName(message)}`,
    );
  }
  const speaker = speakerOfMessage(message.role, where, policy);
  if (typeof message.content !== 'string') {
    const parts = Array.isArray(message.content) ? '; join the text of its parts, and send nothing else' : '';
    throw new ConversationError(
      'conversation-invalid',
      `${where}.content: expected a string, found ${typeName(message.content)}${parts}`,
    );
  }
  return { speaker, text: message.content, messageIndex };
}

function speakerOfMessage(role: unknown, where: string, policy: Pick<Policy, 'roles'>): Speaker {
  switch (role) {
    case 'user':
      return 'User';
    case 'assistant':
    case 'agent':
      return 'Agent';
    case 'system':
    case 'tool': {
      const speaker = policy.roles?.[role];
      if (speaker !== undefined) return speaker;
      throw new ConversationError(
        'role-unsupported',
        `${where}: the instruction knows only User and Agent, and the policy does not say which of them a "${role}" ` +
          `message is shown as; add "roles": {"${role}": "User"} (or "Agent") to the policy, or leave the message out`,
      );
    }
    default:
      throw new ConversationError(
        'role-unsupported',
        `${where}.role: expected "user", "assistant" or "agent" (and "system" or "tool" where the policy says how to ` +
          `show them), found ${quote(role)}`,
      );
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What kind of JSON value was found, for a message: `an object`, `a number`. */
export function typeName(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** A foreign value inside an error message: quoted and short when it is a string, by its kind otherwise. */
export function quote(value: unknown): string {
  if (typeof value !== 'string') return typeName(value);
  return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
}
