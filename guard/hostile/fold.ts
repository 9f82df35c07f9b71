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

/** What a reader takes a character for: ASCII where it imitates ASCII, `\n`, a space, nothing, or the character itself. */
function fold(character: string): string {
  if (lineBreaks.has(character)) return '\n';
  if (/\s/.test(character)) return ' ';
  if (invisible.test(character)) return '';
  const passesFor = [lookalikes.get(character), character.normalize('NFKC'), unhomoglyph(character)];
  return passesFor.find((plain) => plain !== undefined && ascii.test(plain)) ?? character;
}

/** A folded text, and where in the original each of its UTF-16 units comes from. */
export interface View {
  readonly text: string;
  readonly origins: readonly number[];
}

/**
 * A text as its reader sees it. `lines` keeps line breaks and spaces; `compact` has no white space at all, so that
 * `<end\n conversation>` and `[ / I N S T ]` need no pattern of their own.
 */
export function foldedViews(text: string): { readonly lines: View; readonly compact: View } {
  const lines = { units: [] as string[], origins: [] as number[] };
  const compact = { units: [] as string[], origins: [] as number[] };
  const folded = new Map<string, string>();
  let offset = 0;
  for (const character of text) {
    let plain = character >= '!' && character <= '~' ? character : folded.get(character);
    if (plain === undefined) {
      plain = fold(character);
      folded.set(character, plain);
    }
    for (let unit = 0; unit < plain.length; unit++) {
      const one = plain.charAt(unit);
      lines.units.push(one);
      lines.origins.push(offset);
      if (one !== ' ' && one !== '\n') {
        compact.units.push(one);
        compact.origins.push(offset);
      }
    }
    offset += character.length;
  }
  return {
    lines: { text: lines.units.join(''), origins: lines.origins },
    compact: { text: compact.units.join(''), origins: compact.origins },
  };
}
