/** A text that was made from another, unit by unit, and where in that one each of its UTF-16 units comes from. */
export class Rewriting {
  readonly original: string;
  readonly text: string;
  /** For each unit of `text` its place in the original; undefined where nothing was changed. */
  readonly #origins: Uint32Array | undefined;

  /** A text as it came. */
  constructor(original: string, text = original, origins?: Uint32Array) {
    this.original = original;
    this.text = text;
    this.#origins = origins;
  }

  /** Puts a string, shorter, longer or none, in the place of each UTF-16 unit of the text. */
  replace(units: readonly string[]): Rewriting {
    const text = units.join('');
    const origins = new Uint32Array(text.length);
    let at = 0;
    for (const [index, { length }] of units.entries()) {
      origins.fill(this.#origins?.[index] ?? index, at, at + length);
      at += length;
    }
    return new Rewriting(this.original, text, origins);
  }

  /** What `[start, end)` of the text was made from, in UTF-16 offsets of the original. */
  spanOf(start: number, end: number): readonly [start: number, end: number] {
    if (this.#origins === undefined) return [start, end];
    const first = this.#origins[start] ?? this.original.length;
    if (end === start) return [first, first];
    return [first, characterEnd(this.original, this.#origins[end - 1]!)];
  }
}

/** Where the character that begins at an offset ends. */
export function characterEnd(text: string, start: number): number {
  return start + (text.codePointAt(start)! > 0xffff ? 2 : 1);
}
