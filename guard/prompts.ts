import type { Tokenizer } from '../tokenizer/index.ts';
import { PolicyError } from './errors.ts';
import type { HarmlessTurn } from './hostile/index.ts';
import { buildInstruction } from './instruction.ts';
import type { Role } from './messages.ts';
import type { Policy } from './policy.ts';
import { type Piece, smallestBudget, splitIntoWindows } from './windows.ts';

/** What the model is given to judge. */
export interface Prompt {
  /** BOS included. */
  readonly ids: readonly number[];
  /** What it shows of the conversation. */
  readonly turns: readonly Piece<HarmlessTurn>[];
}

/**
 * The prompts that a conversation is judged by: one of at most `limit` tokens, or several with overlapping windows of the
 * conversation where it takes more.
 * @throws PolicyError `policy-too-long`
 */
export function promptsWithin(
  limit: number,
  tokenizer: Tokenizer,
  { policy, role, turns }: { policy: Policy; role: Role; turns: readonly HarmlessTurn[] },
): Prompt[] {
  const idsOf = (shown: typeof turns) => [
    tokenizer.bosId,
    ...tokenizer.encode(buildInstruction({ policy, role, turns: shown }).text),
  ];
  const whole = idsOf(turns);
  if (whole.length <= limit) return [{ ids: whole, turns: turns.map((turn) => ({ ...turn, offset: 0 })) }];
  const frame = idsOf([]).length;
  // The conversation counted alone and inside the frame may differ by a token at either seam.
  const budget = limit - frame - 2;
  if (budget < smallestBudget) {
    throw new PolicyError(
      'policy-too-long',
      `The instruction takes ${frame} of the ${limit} tokens that a prompt may have; ${budget} are left for the ` +
        'conversation. Shorten the policy or load the model with a longer context and a cache that holds it.',
    );
  }
  const countTokens = (text: string) => tokenizer.count(text);
  return splitIntoWindows(turns, { countTokens, budget }).map((shown) => ({ ids: idsOf(shown), turns: shown }));
}
