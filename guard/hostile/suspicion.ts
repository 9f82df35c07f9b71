/**
 * What a message tried.
 *
 * - Rewritten, so that it no longer works: `forged-marker` (`<END CONVERSATION>`), `forged-instruction` (`[/INST]`,
 *   `<<SYS>>`), `forged-turn` (`Agent:` at the start of a line), `special-token` (`</s>`, `<|eot_id|>`).
 * - Read a second time without the disguise: `look-alikes` (words spelt with letters of another script or of a letter
 *   font), `invisible-characters` (inside a word), `spaced-letters` (`b o m b`).
 * - Reported only, since the characters alone break nothing: `forged-assessment` (the sentences around the conversation,
 *   repeated inside it), `forged-verdict` (`unsafe` and a list of codes, or a last line that is a verdict),
 *   `control-characters` (controls, direction overrides, invisible tags, lone surrogates).
 */
export type SuspicionKind =
  | 'forged-marker'
  | 'forged-instruction'
  | 'forged-turn'
  | 'special-token'
  | 'look-alikes'
  | 'invisible-characters'
  | 'spaced-letters'
  | 'forged-assessment'
  | 'forged-verdict'
  | 'control-characters';

/** One thing that a text tried; `start` and `end` are UTF-16 offsets in the original text. */
export interface Suspicion {
  readonly kind: SuspicionKind;
  readonly start: number;
  readonly end: number;
  /** What stands between the offsets, shortened. */
  readonly text: string;
  /** 1; more in the last entry of a kind that occurs very often, which stands for all that follow. */
  readonly occurrences: number;
}

/** A suspicion about one message of a conversation. */
export interface MessageSuspicion extends Suspicion {
  readonly messageIndex: number;
}

const rewrittenKinds: ReadonlySet<SuspicionKind> = new Set([
  'forged-marker',
  'forged-instruction',
  'forged-turn',
  'special-token',
]);

/** Whether a suspicion of this kind was rewritten, since it would have broken the frame, and not just reported. */
export function isRewritten(kind: SuspicionKind): boolean {
  return rewrittenKinds.has(kind);
}

/** In the order of their starts. */
export const inOrder = (suspicions: readonly Suspicion[]): Suspicion[] =>
  suspicions.toSorted((a, b) => a.start - b.start || a.end - b.end);

const listedPerKind = 16;

/**
 * The suspicions of one kind, reported from left to right. From the 16th on they share an entry, which keeps an answer
 * small when a message repeats the same trick a million times.
 */
export class Listing {
  readonly #kind: SuspicionKind;
  readonly #text: string;
  readonly #spans: [start: number, end: number][] = [];
  #occurrences = 0;

  constructor(kind: SuspicionKind, text: string) {
    this.#kind = kind;
    this.#text = text;
  }

  add(start: number, end: number): void {
    this.#occurrences++;
    if (this.#spans.length < listedPerKind) this.#spans.push([start, end]);
    else this.#spans[listedPerKind - 1]![1] = end;
  }

  entries(): Suspicion[] {
    return this.#spans.map(([start, end], index) => ({
      kind: this.#kind,
      start,
      end,
      text: shorten(this.#text, start, end),
      occurrences: index < listedPerKind - 1 ? 1 : this.#occurrences - index,
    }));
  }
}

const shownCharacters = 60;

function shorten(text: string, start: number, end: number): string {
  if (end - start <= shownCharacters) return text.slice(start, end);
  // Array.from goes by code points: no surrogate pair is cut.
  return `${Array.from(text.slice(start, start + 2 * shownCharacters))
    .slice(0, shownCharacters)
    .join('')}…`;
}
