import type { PromptPart } from '../tokenizer/index.ts';
import type { Speaker, Turn } from './messages.ts';

/**
 * The text around a conversation, for one policy and judged role. Special tokens are spelt out in it and become tokens; in
 * messages nothing does.
 */
export interface Frame {
  readonly before: string;
  /** What a turn begins with, by its speaker. */
  readonly opening: Readonly<Record<Speaker, string>>;
  readonly between: string;
  /** What follows the last turn, by its speaker. */
  readonly after: Readonly<Record<Speaker, string>>;
  /** Whether messages are shown without the white space at their ends. */
  readonly trims: boolean;
}

/**
 * A prompt, without the BOS token that tokenizers put in front unless the frame spells it;
 * `text = prefix + conversation + suffix`.
 */
export interface Instruction {
  readonly text: string;
  /** Depends on policy and role alone: what a cache keeps. */
  readonly prefix: string;
  readonly conversation: string;
  readonly suffix: string;
  /** All of it in order. */
  readonly parts: readonly PromptPart[];
}

/**
 * Puts turns into a frame, byte for byte as models were trained to see them. The turns are placed as they are; pass them
 * through `makeHarmless` first.
 */
export function instructionOf(frame: Frame, turns: readonly Turn[]): Instruction {
  const spoken = partsOf(frame, turns);
  const { before: prefix } = frame;
  const conversation = textOf(spoken);
  const suffix = frame.after[turns.at(-1)?.speaker ?? 'User'];
  const parts: PromptPart[] = [{ of: 'frame', text: prefix }, ...spoken, { of: 'frame', text: suffix }];
  return { text: prefix + conversation + suffix, prefix, conversation, suffix, parts };
}

/** The text of the conversation part of an instruction alone. */
export const renderTurns = (frame: Frame, turns: readonly Turn[]): string => textOf(partsOf(frame, turns));

/** The conversation part of an instruction alone. */
export function partsOf({ opening, between, trims }: Frame, turns: readonly Turn[]): PromptPart[] {
  return turns.flatMap(({ speaker, text }, i): PromptPart[] => [
    { of: 'frame', text: (i > 0 ? between : '') + opening[speaker] },
    { of: 'message', text: trims ? trim(text) : text },
  ]);
}

const textOf = (parts: readonly PromptPart[]): string => parts.map(({ text }) => text).join('');

/** What Python's `str.strip` leaves, which is what templates call. It counts other characters as spaces than JavaScript. */
function trim(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && isSpace(text[start]!)) start++;
  while (end > start && isSpace(text[end - 1]!)) end--;
  return text.slice(start, end);
}

const isSpace = (character: string): boolean =>
  character === '\x85' ||
  (character >= '\x1c' && character <= '\x1f') ||
  (character !== '\ufeff' && /\s/.test(character));
