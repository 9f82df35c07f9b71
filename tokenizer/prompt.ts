import type { TokenizerError } from './errors.ts';

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
  readonly lstrip?: boolean | undefined;
  readonly rstrip?: boolean | undefined;
}

/** A prompt comes apart into added tokens and the texts between them. */
export type PromptPiece = AddedToken | string;

/** Many times what any model has, and what a tree of spellings takes little memory for. */
const mostUnits = 2 ** 18;

/** The spellings that begin with the same units; by the unit that follows. */
interface Branch {
  readonly next: Map<string, Branch>;
  token?: AddedToken;
}

/**
 * Finds added tokens in the frames of prompts: the leftmost first, and of those that begin at a place the longest, as
 * Hugging Face's tokenizers do.
 */
export class AddedTokens {
  readonly #root: Branch = { next: new Map() };

  /**
   * @param tokens none of them spelt by the empty text
   * @param fail makes the error that is thrown where they are too many
   */
  constructor(tokens: readonly AddedToken[], fail: (why: string) => TokenizerError) {
    const units = tokens.reduce((sum, { content }) => sum + content.length, 0);
    if (units > mostUnits) {
      throw fail(`has ${tokens.length} added tokens of ${units} characters, more than ${mostUnits}`);
    }
    for (const token of tokens) {
      let branch = this.#root;
      for (const unit of token.content.split('')) {
        const next = branch.next.get(unit) ?? { next: new Map() };
        branch.next.set(unit, next);
        branch = next;
      }
      branch.token = token;
    }
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
      for (const piece of of === 'frame' ? this.#cutFrame(own) : [own]) {
        if (typeof piece === 'string') {
          text += piece;
          continue;
        }
        if (text !== '') pieces.push(text);
        pieces.push(piece);
        text = '';
      }
    }
    if (text !== '') pieces.push(text);
    return pieces.map((piece, i) => (typeof piece === 'string' ? strip(piece, pieces[i - 1], pieces[i + 1]) : piece));
  }

  *#cutFrame(text: string): Generator<PromptPiece> {
    let shown = 0;
    for (let at = 0; at < text.length; ) {
      const token = this.#longestAt(text, at);
      if (!token) {
        at++;
        continue;
      }
      yield text.slice(shown, at);
      yield token;
      at += token.content.length;
      shown = at;
    }
    yield text.slice(shown);
  }

  #longestAt(text: string, start: number): AddedToken | undefined {
    let found: AddedToken | undefined;
    let branch = this.#root.next.get(text[start]!);
    for (let at = start + 1; branch; at++) {
      found = branch.token ?? found;
      branch = branch.next.get(text[at]!);
    }
    return found;
  }
}

/** Frames that follow one another are one: a token may lie across their seam. */
function joinFrames(parts: readonly PromptPart[]): PromptPart[] {
  const joined: PromptPart[] = [];
  for (const part of parts) {
    const last = joined.at(-1);
    if (last?.of === 'frame' && part.of === 'frame') joined.splice(-1, 1, { of: 'frame', text: last.text + part.text });
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
