import { FormatError } from '../errors.ts';
import { type Instruction, instructionOf } from '../instruction.ts';
import type { Role, Turn } from '../messages.ts';
import type { Policy } from '../policy.ts';
import type { FormatClues, PromptFormat } from './format.ts';
import { llamaGuard1, llamaGuard2, llamaGuard3 } from './llama-guard.ts';
import { qwen3Guard } from './qwen3guard.ts';
import { wildGuard } from './wildguard.ts';

export type { AnswerGrammar, FormatClues, Label, ListGrammar, PromptFormat, Step } from './format.ts';
export { llamaGuard1, llamaGuard2, llamaGuard3, qwen3Guard, wildGuard };

/** The more particular before the more general. */
export const promptFormats: readonly PromptFormat[] = [llamaGuard3, llamaGuard2, llamaGuard1, qwen3Guard, wildGuard];

/** A format by its name. @throws FormatError `format-unknown` */
export function formatNamed(name: string): PromptFormat {
  const format = promptFormats.find((each) => each.name === name);
  if (format) return format;
  throw new FormatError('format-unknown', `There is no prompt format '${name}': there are ${known()}.`);
}

/**
 * The format that a model folder speaks for. A folder without a chat template, as early ones are, is taken for Llama
 * Guard 1 unless its name says otherwise.
 * @throws FormatError `format-unknown` for a chat template of no format that is known
 */
export function recogniseFormat(clues: FormatClues): PromptFormat {
  const format = promptFormats.find(({ recognises }) => recognises(clues));
  if (format) return format;
  if (clues.template === undefined) return llamaGuard1;
  throw new FormatError(
    'format-unknown',
    `The chat template of ${clues.name} is of no guard that is known. If the model was trained in one of the formats ` +
      `${known()}, name it ('--prompt-format', or 'promptFormat' of Guard.load).`,
  );
}

const known = () => promptFormats.map(({ name }) => name).join(', ');

/**
 * The instruction by which a conversation is judged, in the format of Llama Guard 1 unless another is given. The turns are
 * placed as they are; pass them through `makeHarmless` first.
 */
export function buildInstruction(parts: {
  readonly policy: Policy;
  readonly role: Role;
  readonly turns: readonly Turn[];
  readonly format?: PromptFormat;
}): Instruction {
  const { policy, role, turns, format = llamaGuard1 } = parts;
  return instructionOf(format.frame(policy, role), turns);
}
