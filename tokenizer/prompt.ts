/** A stretch of a prompt: written by the frame around a conversation, or by the people whose conversation it is. */
export interface PromptPart {
  readonly of: 'frame' | 'message';
  readonly text: string;
}

/** A token that stands for itself: no text is encoded to it, a prompt's frame spells it out. */
export interface AddedToken {
  readonly id: number;
  /** How a frame spells it, e.g. `<|eot_id|>`. */
  readonly content: string;
  /** Whether it takes up the white space on that side of it. */
  readonly lstrip?: boolean;
  readonly rstrip?: boolean;
}

/** A prompt comes apart into added tokens and the texts between them. */
export type PromptPiece = AddedToken | string;

/**
 * Finds added tokens in the frames of prompts: of those that begin at a place the longest, and the leftmost first, as
 * Hugging Face's tokenizers do.
 */
export class AddedTokens {
  readonly #byContent: ReadonlyMap<string, AddedToken>;
  /** Undefined where there are none. */
  readonly #spelling: RegExp | undefined;

  constructor(tokens: readonly AddedToken[]) {
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    const longestFirst = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    const alternatives = longestFirst.map((content) => content.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&'));
    this.#spelling = alternatives.length > 0 ? new RegExp(alternatives.join('|'), 'g') : undefined;
  }

  /**
   * Cuts a prompt at the added tokens that its frame spells. What is between two of them is one text, across the seams of
   * frame and messages: pieces merge there as they did in training. Messages are text, and so is what comes to look like
   * a token only together with a message, even an empty one.
   */
  cut(parts: readonly PromptPart[]): PromptPiece[] {
    const pieces: PromptPiece[] = [];
    let text = '';
    for (const { of, text: own } of joinFrames(parts)) {
      let at = 0;
      const found = of === 'frame' && this.#spelling ? own.matchAll(this.#spelling) : [];
      for (const { index, 0: content } of found) {
        text += own.slice(at, index);
        if (text !== '') pieces.push(text);
        pieces.push(this.#byContent.get(content)!);
        text = '';
        at = index + content.length;
      }
      text += own.slice(at);
    }
    if (text !== '') pieces.push(text);
    return pieces.map((piece, i) => (typeof piece === 'string' ? strip(piece, pieces[i - 1], pieces[i + 1]) : piece));
  }
}

/** Frames that follow one another are one: a token may lie across their seam. */
function joinFrames(parts: readonly PromptPart[]): PromptPart[] {
  const joined: PromptPart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (last?.of === 'frame' && part.of === 'frame')
      joined[joined.length - 1] = { of: 'frame', text: last.text + part.text };
    else joined.push(part);
  }
  return joined;
}

/** A text without the white space that its neighbours take up. Two texts are never neighbours. */
function strip(text: string, before: PromptPiece | undefined, after: PromptPiece | undefined): string {
  const left = (before as AddedToken | undefined)?.rstrip ? text.trimStart() : text;
  return (after as AddedToken | undefined)?.lstrip ? left.trimEnd() : left;
}

export interface PieceEncoding {
  /** The token that the tokenizer puts in front of prompts, where it puts one. */
  readonly front: number | undefined;
  /** The ids of a text; `atStart` tells whether the prompt begins with it. */
  readonly encode: (text: string, atStart: boolean) => readonly number[];
}

/** The ids of a prompt's pieces, `front` before them unless the first piece is that token. */
export function encodePieces(pieces: readonly PromptPiece[], { front, encode }: PieceEncoding): number[] {
  const [first] = pieces;
  const spelt = typeof first === 'object' && first.id === front;
  const ids = front === undefined || spelt ? [] : [front];
  for (const [i, piece] of pieces.entries()) {
    if (typeof piece === 'object') ids.push(piece.id);
    else for (const id of encode(piece, i === 0)) ids.push(id);
  }
  return ids;
}
