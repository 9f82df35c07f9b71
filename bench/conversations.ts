import { readFileSync } from 'node:fs';
import * as z from 'zod';
import type { CheckRequest, Role } from '../guard/index.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { BenchError } from './schema.ts';

/** A conversation, and whether people call it unsafe, where they have said. */
export interface LabelledConversation extends CheckRequest {
  readonly unsafe?: 0 | 1;
}

const role = z.enum(['user', 'assistant', 'agent']);

/** Other fields, as data sets have them, are passed over. */
const line = z
  .object({
    messages: z.array(z.object({ role, content: z.string() })).optional(),
    prompt: z.string().optional(),
    role: z.enum(['user', 'agent']).optional(),
    unsafe: z.literal([0, 1]).nullish(),
  })
  .refine(({ messages, prompt }) => (messages === undefined) !== (prompt === undefined), {
    error: 'it must have either "messages" or "prompt"',
  });

/** The conversations that come with the project: those of the demonstration, and the embedded model's reference prompts. */
export function bundledConversations(): CheckRequest[] {
  const parse = (url: URL | string) => JSON.parse(readFileSync(url, 'utf8'));
  const demo: CheckRequest[] = parse(new URL('../guard/demo/conversations.json', import.meta.url));
  const { cases } = parse(`${embeddedModel}/reference.json`) as {
    cases: { role: string; turns: { role: string; text: string }[] }[];
  };
  const roleOf = (role: string): Role => (role === 'User' ? 'user' : 'agent');
  const referenced = cases.map(({ role, turns }) => ({
    role: roleOf(role),
    messages: turns.map((turn) => ({ role: roleOf(turn.role), content: turn.text })),
  }));
  return [...demo, ...referenced];
}

/**
 * Reads conversations, one a line: `{"messages": [{"role", "content"}], "role"?, "unsafe"?: 0 | 1 | null}`, or with
 * `"prompt"`, what the user said, in place of messages. Blank lines are skipped.
 * @throws BenchError `data-not-found`; `data-invalid`, which names the line
 */
export function readConversations(file: string): LabelledConversation[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new BenchError('data-not-found', `${file} cannot be read: ${(cause as Error).message}.`, { cause });
  }
  return text.split('\n').flatMap((json, i) => (json.trim() === '' ? [] : [parseLine(json, `${file}, line ${i + 1}`)]));
}

function parseLine(json: string, place: string): LabelledConversation {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new BenchError('data-invalid', `${place}: it is not JSON: ${(cause as Error).message}.`, { cause });
  }
  const { success, data, error } = line.safeParse(value);
  if (!success) {
    const [{ path, message }] = error.issues as [z.core.$ZodIssue];
    throw new BenchError('data-invalid', `${place}: ${path.length > 0 ? `${path.join('.')}: ` : ''}${message}.`);
  }
  const { messages, prompt, role, unsafe } = data;
  return {
    messages: (messages ?? prompt)!,
    ...(role === undefined ? {} : { role }),
    ...(unsafe === undefined || unsafe === null ? {} : { unsafe }),
  };
}
