import type { Tokenizer } from '../tokenizer/index.ts';
import { answerTokens } from './answer.ts';
import { answerRoom } from './answer-room.ts';
import { llamaGuard1, type PromptFormat } from './formats/index.ts';
import { instructionOf } from './instruction.ts';
import type { Role } from './messages.ts';
import { categoryBlock, type Policy } from './policy.ts';

/** Something about a policy that works, and may not work as meant. */
export interface Finding {
  readonly kind: 'unordered' | 'shared-first-token' | 'no-description' | 'no-room';
  /** The categories that it is about. */
  readonly codes: readonly string[];
  readonly message: string;
}

/** Tokens of a prompt, by what they are spent on. */
export interface TokenBudget {
  readonly context: number;
  /** The instruction around the categories and the conversation. */
  readonly frame: number;
  readonly categories: readonly { readonly code: string; readonly tokens: number }[];
  /** Kept for the written answer. */
  readonly answer: number;
  /** Left for the conversation; none where negative. */
  readonly conversation: number;
}

export interface LintOptions {
  readonly tokenizer: Pick<Tokenizer, 'encode' | 'encodePrompt' | 'decode'>;
  /** Tokens of the longest prompt. */
  readonly contextLength: number;
  readonly role: Role;
  /** That of Llama Guard 1 unless told. */
  readonly format?: PromptFormat;
}

/** Fewer tokens than this hold no conversation. */
const leastConversation = 64;

/**
 * Looks a valid policy over: what is wrong outright, `parsePolicy` and `assertDistinguishable` refuse.
 * @throws TokenizerError `tokenizer-mismatch` where the tokenizer is not of a guard in this prompt format
 */
export function lintPolicy(
  policy: Policy,
  options: LintOptions,
): { readonly findings: readonly Finding[]; readonly budget: TokenBudget } {
  const budget = budgetOf(policy, options);
  return {
    findings: [
      ...unordered(policy),
      ...sharedFirstTokens(policy, options),
      ...withoutDescription(policy),
      ...withoutRoom(budget),
    ],
    budget,
  };
}

function budgetOf(policy: Policy, options: LintOptions): TokenBudget {
  const { tokenizer, contextLength, role, format = llamaGuard1 } = options;
  const frame = format.frame(policy, role);
  const whole = tokenizer.encodePrompt(instructionOf(frame, []).parts).length;
  const answer = answerRoom(format.answer, answerTokens(tokenizer, format.answer, role, frame.after.User), policy);
  const categories = policy.categories.map((category) => ({
    code: category.code,
    tokens: tokenizer.encode(`\n${categoryBlock(category)}`).length - tokenizer.encode('\n').length + 1,
  }));
  const spent = categories.reduce((sum, { tokens }) => sum + tokens, 0);
  return {
    context: contextLength,
    frame: Math.max(0, whole - spent),
    categories,
    answer,
    conversation: contextLength - whole - answer,
  };
}

/** Codes that end in numbers, such as O1 to O6, read as a list: models were trained on lists in order, or shuffled. */
function unordered({ categories }: Policy): Finding[] {
  const numbered = categories.map(({ code }) => {
    const [, stem = code, number] = code.match(/^(.*?)(\d+)$/) ?? [];
    return { code, stem, number: Number(number) };
  });
  return numbered.slice(1).flatMap((next, i): Finding[] => {
    const before = numbered[i]!;
    if (before.stem !== next.stem || !(next.number < before.number)) return [];
    const message = `${next.code} stands behind ${before.code}: lists are commonly in the order of their numbers`;
    return [{ kind: 'unordered', codes: [before.code, next.code], message }];
  });
}

/** Codes that begin with the same token are told apart only by what follows it. */
function sharedFirstTokens({ categories }: Policy, { tokenizer }: LintOptions): Finding[] {
  const written = tokenizer.encode('unsafe\n').length;
  const groups = new Map<number, string[]>();
  for (const { code } of categories) {
    const first = tokenizer.encode(`unsafe\n${code}`)[written]!;
    groups.set(first, [...(groups.get(first) ?? []), code]);
  }
  return Array.from(groups)
    .filter(([, codes]) => codes.length > 1)
    .map(([token, codes]) => ({
      kind: 'shared-first-token',
      codes,
      message:
        `${codes.join(', ')} begin with the same token ${JSON.stringify(tokenizer.decode([token]))}: what is read off the first ` +
        'token of the list cannot tell them apart (joint scores read all of a code)',
    }));
}

function withoutDescription({ categories }: Policy): Finding[] {
  return categories
    .filter(({ description, shouldNot = [], can = [] }) => !description && shouldNot.length + can.length === 0)
    .map(({ code, name }) => ({
      kind: 'no-description',
      codes: [code],
      message: `${code} says no more than its name, ${JSON.stringify(name)}`,
    }));
}

function withoutRoom({ context, conversation }: TokenBudget): Finding[] {
  if (conversation >= leastConversation) return [];
  const message = `of ${context} tokens ${Math.max(0, conversation)} are left for the conversation: shorten the policy`;
  return [{ kind: 'no-room', codes: [], message }];
}
