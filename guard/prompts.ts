import type { Tokenizer } from '../tokenizer/index.ts';
import { PolicyError } from './errors.ts';
import type { HarmlessTurn } from './hostile/index.ts';
import { type Frame, type Instruction, instructionOf, partsOf } from './instruction.ts';
import type { Turn } from './messages.ts';
import { type Piece, smallestBudget, splitIntoWindows } from './windows.ts';

/** What the model is given to judge. */
export interface Prompt {
  /** BOS included, where there is one. */
  readonly ids: readonly number[];
  /** What it shows of the conversation. */
  readonly turns: readonly Piece<HarmlessTurn>[];
  /** What the frame says behind the conversation. */
  readonly end: string;
}

/** The token ids of an instruction, BOS included where the tokenizer has one. */
export const instructionIds = (
  tokenizer: Pick<Tokenizer, 'encodePrompt'>,
  { parts }: Pick<Instruction, 'parts'>,
): number[] => tokenizer.encodePrompt(parts);

/** Characters a token beyond which a prompt is not tried whole: it is all but sure to take more tokens than it may. */
const mostCharacters = 8;

/** How long a prompt may be. */
export interface PromptLimit {
  /** With what is written behind it. */
  readonly tokens: number;
  /** Kept for the written answer. */
  readonly reserved: number;
}

/**
 * The prompts that a conversation is judged by: one within the limit, or several with overlapping windows of the
 * conversation where it takes more.
 * @param inPieces does pieces of work, of at most about a prompt each
 * @throws PolicyError `policy-too-long`; what `inPieces` throws
 */
export async function promptsWithin(
  { tokens, reserved }: PromptLimit,
  tokenizer: Pick<Tokenizer, 'encodePrompt'>,
  frame: Frame,
  turns: readonly HarmlessTurn[],
  inPieces: <T>(piece: () => T) => Promise<T>,
): Promise<Prompt[]> {
  const limit = tokens - reserved;
  const promptOf = (shown: readonly Piece<HarmlessTurn>[]): Promise<Prompt> =>
    inPieces(() => {
      const instruction = instructionOf(frame, shown);
      return { ids: instructionIds(tokenizer, instruction), turns: shown, end: instruction.suffix };
    });
  if (instructionOf(frame, turns).text.length <= mostCharacters * limit) {
    const whole = await promptOf(turns.map((turn) => ({ ...turn, offset: 0 })));
    if (whole.ids.length <= limit) return [whole];
  }
  const around = (await promptOf([])).ids.length;
  // The conversation counted alone and inside the frame may differ by a token at either seam.
  const budget = limit - around - 2;
  if (budget < smallestBudget) {
    throw new PolicyError(
      'policy-too-long',
      `The instruction takes ${around} of the ${tokens} tokens that a prompt may have, and ${reserved} are kept for the ` +
        `written answer; ${Math.max(0, budget)} are left for the conversation, which needs ${smallestBudget}. Shorten the policy or load ` +
        'the model with a longer context and a cache that holds it.',
    );
  }
  const bos = await inPieces(() => tokenizer.encodePrompt([]).length);
  const countTokens = (shown: readonly Turn[]) =>
    inPieces(() => tokenizer.encodePrompt(partsOf(frame, shown)).length - bos);
  const prompts: Prompt[] = [];
  for (const shown of await splitIntoWindows(turns, { countTokens, budget })) prompts.push(await promptOf(shown));
  return prompts;
}
