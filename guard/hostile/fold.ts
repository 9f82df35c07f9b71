import unhomoglyph from 'unhomoglyph';

/** Characters that pass for an ASCII one, where NFKC and Unicode's confusables say nothing or something else. */
const lookalikes = new Map(
  Object.entries({
    '<': '\u00ab\u227a\u2329\u276c\u2770\u27e8\u27ea\u29fc\u3008\u300a',
    '>': '\u00bb\u227b\u232a\u276d\u2771\u27e9\u27eb\u29fd\u3009\u300b',
    '[': '\u2045\u2772\u27e6\u3010\u3014\u3016\u301a',
    ']': '\u2046\u2773\u27e7\u3011\u3015\u3017\u301b',
    '|': '\u00a6\u01c0\u2223\u2502\u2758',
    b: '\u0432',
    i: '\u0399\u0406',
    t: '\u0442',
    ' ': '\u2800',
  }).flatMap(([plain, others]) => [...others].map((other) => [other, plain] as const)),
);

const lineBreaks = new Set('\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029');
const invisible = /[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}]/u;
const ascii = /^[ -~]+$/;
const standsForItself = /^[ -~\n]/;

/** What a reader takes a character for: ASCII where it imitates ASCII, `\n`, a space, nothing, or the character itself. */
function fold(character: string): string {
  if (lineBreaks.has(character)) return '\n';
  if (/\s/.test(character)) return ' ';
  if (invisible.test(character)) return '';
  const passesFor = [lookalikes.get(character), character.normalize('NFKC'), unhomoglyph(character)];
  return passesFor.find((plain) => plain !== undefined && ascii.test(plain)) ?? character;
}

/** A folded text, and where in the original each of its UTF-16 units comes from. */
export class View {
  readonly #parts: string[] = [];
  #text: string | undefined;
  #length = 0;
  /** Runs of units that are neighbours in the original too: where they begin here, and there. */
  readonly #starts: number[] = [];
  readonly #origins: number[] = [];

  get text(): string {
    this.#text ??= this.#parts.join('');
    return this.#text;
  }

  /** Adds neighbours of the original, from `origin` on. */
  add(units: string, origin: number): void {
    const last = this.#starts.length - 1;
    if (last < 0 || origin - this.#length !== this.#origins[last]! - this.#starts[last]!) {
      this.#starts.push(this.#length);
      this.#origins.push(origin);
    }
    this.#parts.push(units);
    this.#text = undefined;
    this.#length += units.length;
  }

  /** Where the unit at this place comes from. */
  originOf(place: number): number {
    let [low, high] = [0, this.#starts.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! <= place) low = middle;
      else high = middle;
    }
    return this.#origins[low]! + place - this.#starts[low]!;
  }
}

/**
 * A text as its reader sees it. `lines` keeps line breaks and spaces; `compact` has no white space at all, so that
 * `<end\n conversation>` and `[ / I N S T ]` need no pattern of their own.
 */
export function foldedViews(text: string): { readonly lines: View; readonly compact: View } {
  const [lines, compact] = [new View(), new View()];
  const folded = new Map<string, string>();
  // What stands for itself, as nearly all does, and single characters of everything else.
  for (const { 0: run, index: at } of text.matchAll(/[ -~\n]+|[^ -~\n]/gu)) {
    if (standsForItself.test(run)) {
      lines.add(run, at);
      for (const { 0: word, index } of run.matchAll(/[!-~]+/g)) compact.add(word, at + index);
      continue;
    }
    const plain = folded.get(run) ?? fold(run);
    folded.set(run, plain);
    for (const unit of plain.split('')) {
      lines.add(unit, at);
      if (unit !== ' ' && unit !== '\n') compact.add(unit, at);
    }
  }
  return { lines, compact };
}
