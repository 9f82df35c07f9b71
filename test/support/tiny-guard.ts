import { readFileSync } from 'node:fs';
import type { Conversation, Policy, Role } from '../../guard/index.ts';
import { embeddedModel } from '../../guard/node/load.ts';

/** One prompt of the embedded model's `reference.json`, as two independent implementations computed it. */
export interface ReferenceCase {
  readonly name: string;
  readonly role: 'User' | 'Agent';
  readonly categories: readonly string[];
  readonly turns: readonly { readonly role: 'User' | 'Agent'; readonly text: string }[];
  readonly prompt: string;
  readonly input_ids: readonly number[];
  readonly top20_ids: readonly number[];
  readonly top20_logits: readonly number[];
  readonly logprob_safe: number;
  readonly logprob_unsafe: number;
  readonly p_unsafe: number;
  readonly p_unsafe_pair: number;
  readonly completion: string;
  readonly completion_ids: readonly number[];
}

export interface Reference {
  readonly token_safe: number;
  readonly token_unsafe: number;
  readonly cases: readonly ReferenceCase[];
  readonly hidden_states: {
    readonly case: string;
    readonly states: readonly (readonly number[])[];
    readonly final_norm: readonly number[];
  };
}

export const reference: Reference = JSON.parse(readFileSync(`${embeddedModel}/reference.json`, 'utf8'));

/** Cases whose text is not made harmless first: the reference read it as it stands. */
export const plainCases = reference.cases.filter(({ name }) => !name.startsWith('injection'));

export const conversationOf = ({ turns }: ReferenceCase): Exclude<Conversation, string> =>
  turns.map(({ role, text }) => ({ role: role === 'User' ? 'user' : 'assistant', content: text }));

export const roleOf = ({ role }: ReferenceCase): Role => (role === 'User' ? 'user' : 'agent');

/** The embedded model's policy with the categories of a case. */
export const policyOf = (policy: Policy, { categories }: ReferenceCase): Policy => ({
  ...policy,
  categories: categories.map((code) => policy.categories.find((category) => category.code === code)!),
});

/** The largest difference between two rows of numbers. */
export const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  Array.from(a).reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
