import type { Turn } from '../messages.ts';
import { neutraliseRewriting } from './neutralise.ts';
import { normalise } from './normalise.ts';
import { Rewriting } from './rewriting.ts';
import { inOrder, type MessageSuspicion } from './suspicion.ts';

export { type Neutralised, neutralise } from './neutralise.ts';
export { isRewritten, type MessageSuspicion, type Suspicion, type SuspicionKind } from './suspicion.ts';

/** A turn whose text cannot break the instruction's frame. */
export interface HarmlessTurn extends Turn {
  /** What made `text` of the message's own. */
  readonly rewriting: Rewriting;
}

/** What the model is shown of a conversation. */
export interface Harmless {
  /** As it was written, but for what would have broken the frame. */
  readonly turns: readonly HarmlessTurn[];
  /** The same with its words normalised; null where none was disguised. */
  readonly normalised: readonly HarmlessTurn[] | null;
  /** Message by message, each in the order of their starts. */
  readonly suspicions: readonly MessageSuspicion[];
}

/** Makes messages safe to place between the conversation markers, and reports what they tried. */
export function makeHarmless(turns: readonly Turn[]): Harmless {
  const messages = turns.map((turn) => {
    const written = neutraliseRewriting(new Rewriting(turn.text));
    const words = normalise(turn.text);
    const disguised = words.suspicions.length > 0;
    return {
      written: harmlessTurn(turn, written.rewriting),
      normalised: harmlessTurn(turn, disguised ? neutraliseRewriting(words.rewriting).rewriting : written.rewriting),
      disguised,
      suspicions: inOrder([...written.suspicions, ...words.suspicions]).map((suspicion) => ({
        messageIndex: turn.messageIndex,
        ...suspicion,
      })),
    };
  });
  return {
    turns: messages.map(({ written }) => written),
    normalised: messages.some(({ disguised }) => disguised) ? messages.map(({ normalised }) => normalised) : null,
    suspicions: messages.flatMap(({ suspicions }) => suspicions),
  };
}

const harmlessTurn = (turn: Turn, rewriting: Rewriting): HarmlessTurn => ({ ...turn, text: rewriting.text, rewriting });
