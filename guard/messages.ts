/** Whose messages are judged: `user` is prompt classification, `agent` is response classification. */
export const roles = ['user', 'agent'] as const;
export type Role = (typeof roles)[number];

/** A role as the instruction writes it. */
export type Speaker = 'User' | 'Agent';

/** A message as chat programs send it. `agent` is another word for `assistant`; fields beyond these two are ignored. */
export interface Message {
  readonly role: 'user' | 'assistant' | 'agent' | 'system' | 'tool';
  readonly content: string;
}

/** One turn of the conversation as the instruction shows it. */
export interface Turn {
  readonly speaker: Speaker;
  readonly text: string;
  /** The message's place in the list that came in; a window may show a part of its text. */
  readonly messageIndex: number;
}

/** The role as the instruction writes it: `User` or `Agent`. */
export function speakerOf(role: Role): Speaker {
  return role === 'user' ? 'User' : 'Agent';
}
