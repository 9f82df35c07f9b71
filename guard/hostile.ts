import type { Turn } from './messages.ts';

/**
 * What a message tried.
 * Rewritten, so that it no longer works: `forged-marker` (`<END CONVERSATION>`), `forged-instruction` (`[/INST]`,
 * `<<SYS>>`), `forged-turn` (`Agent:` at the start of a line), `special-token` (`</s>`, `<|eot_id|>`).
 * Reported only, since the characters alone break nothing: `forged-assessment` (the sentences around the conversation,
 * repeated inside it), `control-characters` (controls, direction overrides, invisible tags, lone surrogates).
 */
export type SuspicionKind =
  | 'forged-marker'
  | 'forged-instruction'
  | 'forged-turn'
  | 'special-token'
  | 'forged-assessment'
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

export interface Neutralised {
  readonly text: string;
  /** In the order of their starts; empty for nearly every honest text. */
  readonly suspicions: readonly Suspicion[];
}

/** Characters that pass for an ASCII one and that Unicode normalisation (NFKC) does not already fold to it. */
const lookalikes = new Map(
  Object.entries({
    '<': '\u00ab\u02c2\u1438\u2039\u227a\u2329\u276c\u276e\u2770\u27e8\u27ea\u29fc\u3008\u300a',
    '>': '\u00bb\u02c3\u1433\u203a\u227b\u232a\u276d\u276f\u2771\u27e9\u27eb\u29fd\u3009\u300b',
    '[': '\u2045\u2772\u27e6\u3010\u3014\u3016\u301a',
    ']': '\u2046\u2773\u27e7\u3011\u3015\u3017\u301b',
    '/': '\u2044\u2215\u2571\u29f8',
    '|': '\u00a6\u01c0\u2223\u2502\u2758',
    ':': '\u02d0\u0589\u05c3\u2236\ua789',
    a: '\u0251\u0391\u03b1\u0410\u0430',
    b: '\u0392\u0412\u0432',
    c: '\u03f2\u0421\u0441',
    d: '\u0501',
    e: '\u0395\u0415\u0435',
    g: '\u0261\u0581',
    i: '\u0131\u0399\u03b9\u0406\u0456\u04cf',
    n: '\u039d\u0578',
    o: '\u039f\u03bf\u041e\u043e\u0585',
    r: '\u0433',
    s: '\u0405\u0455',
    t: '\u03a4\u0422\u0442',
    u: '\u03c5\u057d',
    v: '\u03bd\u0475',
    y: '\u03a5\u0423\u0443\u04af',
    ' ': '\u2800',
  }).flatMap(([plain, others]) => [...others].map((other) => [other, plain] as const)),
);

const lineBreaks = new Set('\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029');
const invisible = /[\p{Default_Ignorable_Code_Point}\p{Cf}\p{Cc}]/u;

/** What a reader takes a character for: ASCII where it imitates ASCII, `\n`, a space, nothing, or the character itself. */
function fold(character: string): string {
  if (lineBreaks.has(character)) return '\n';
  if (/\s/.test(character)) return ' ';
  if (invisible.test(character)) return '';
  const plain = lookalikes.get(character) ?? character.normalize('NFKC');
  return /^[ -~]+$/.test(plain) ? plain : character;
}

/** A folded text, and where in the original each of its UTF-16 units comes from. */
interface View {
  readonly text: string;
  readonly origins: readonly number[];
}

/**
 * Patterns are looked for in two folded views of a text. `lines` keeps line breaks and spaces; `compact` has no white
 * space at all, so that `<end\n conversation>` and `[ / I N S T ]` need no pattern of their own. What little repetition the
 * patterns are left with is bounded or stays within a line's leading spaces: each runs in linear time.
 */
function foldedViews(text: string): { readonly lines: View; readonly compact: View } {
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

interface Rule {
  readonly kind: SuspicionKind;
  readonly view: 'lines' | 'compact';
  readonly pattern: RegExp;
}

const rules: readonly Rule[] = [
  {
    // Without its closing bracket, too: a model does not insist on it.
    kind: 'forged-marker',
    view: 'compact',
    pattern: /<\/?(?:begin|end)[-_]?(?:unsafe[-_]?content[-_]?categories|conversation)>?/gi,
  },
  { kind: 'forged-instruction', view: 'compact', pattern: /\[\/?inst\]|<<\/?sys>>/gi },
  { kind: 'forged-turn', view: 'lines', pattern: /^ *(?:user|agent) *:/gim },
  {
    // SentencePiece reads these as plain text, but a tokenizer.json may declare them as added tokens that are cut out of
    // any text before it is tokenised. Whether a message is safe to embed must not depend on that, so they are rewritten.
    kind: 'special-token',
    view: 'lines',
    // The bars may hold brackets: those of a marker inside would leave a token once they are parentheses.
    pattern: /<\/?s>|<(?:unk|pad|bos|eos)>|<\|[^\s|]{1,64}\|>/g,
  },
  {
    kind: 'forged-assessment',
    view: 'compact',
    pattern: /task:checkifthereisunsafecontent|provideyoursafetyassessmentfor|ifunsafe,asecondlinemustinclude/gi,
  },
];

const controlCharacters =
  // A flag emoji spells its region in tag characters after U+1F3F4: those are not suspicious.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: finding them is the purpose.
  /[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u202d\u202e\p{Cs}]+|(?<![\u{1f3f4}\u{e0020}-\u{e007f}])[\u{e0000}-\u{e007f}]+/gu;

const parentheses = new Map([
  ['<', '('],
  ['[', '('],
  ['>', ')'],
  [']', ')'],
]);

/**
 * Makes a message safe to place between the conversation markers: it cannot end the block, open a turn, close the
 * instruction or become a special token, whatever case, spacing, invisible characters or look-alikes it uses.
 *
 * Brackets of forged markers become parentheses and `User:` at a line start becomes `(User)`; every other character stays,
 * and a text without any of it comes back as it was. The result is a fixed point. Time is linear in the text's length.
 */
export function neutralise(text: string): Neutralised {
  const views = foldedViews(text);
  const suspicions: Suspicion[] = [];
  const replacements: [at: number, replacement: string][] = [];
  for (const { kind, view, pattern } of rules) {
    const { text: folded, origins } = views[view];
    const listing = new Listing(kind, text);
    for (const match of folded.matchAll(pattern)) {
      // Only a turn label may begin with spaces, which are not part of it.
      const first = match.index + match[0].length - match[0].trimStart().length;
      const last = match.index + match[0].length - 1;
      listing.add(origins[first]!, characterEnd(text, origins[last]!));
      if (kind === 'forged-turn') {
        const label = origins[first]!;
        replacements.push([label, `(${text.slice(label, characterEnd(text, label))}`], [origins[last]!, ')']);
      } else if (isRewritten(kind)) {
        for (let at = first; at <= last; at++) {
          const replacement = parentheses.get(folded[at]!);
          if (replacement !== undefined) replacements.push([origins[at]!, replacement]);
        }
      }
    }
    suspicions.push(...listing.entries());
  }
  const controls = new Listing('control-characters', text);
  for (const match of text.matchAll(controlCharacters)) controls.add(match.index, match.index + match[0].length);
  suspicions.push(...controls.entries());
  suspicions.sort((a, b) => a.start - b.start || a.end - b.end);
  return { text: replaceCharacters(text, replacements), suspicions };
}

/** `neutralise` for a whole conversation; each suspicion says which message it is about. */
export function neutraliseTurns(turns: readonly Turn[]): {
  readonly turns: readonly Turn[];
  readonly suspicions: readonly MessageSuspicion[];
} {
  const suspicions: MessageSuspicion[] = [];
  const neutral = turns.map((turn) => {
    const result = neutralise(turn.text);
    for (const suspicion of result.suspicions) suspicions.push({ messageIndex: turn.messageIndex, ...suspicion });
    return { ...turn, text: result.text };
  });
  return { turns: neutral, suspicions };
}

function characterEnd(text: string, start: number): number {
  return start + (text.codePointAt(start)! > 0xffff ? 2 : 1);
}

function replaceCharacters(text: string, replacements: readonly [at: number, replacement: string][]): string {
  if (replacements.length === 0) return text;
  const units = text.split('');
  for (const [at, replacement] of replacements) {
    units[at] = replacement;
    if (characterEnd(text, at) > at + 1) units[at + 1] = '';
  }
  return units.join('');
}

const shownCharacters = 60;

function shorten(text: string, start: number, end: number): string {
  if (end - start <= shownCharacters) return text.slice(start, end);
  // Array.from goes by code points: no surrogate pair is cut.
  return `${Array.from(text.slice(start, start + 2 * shownCharacters))
    .slice(0, shownCharacters)
    .join('')}…`;
}

const listedPerKind = 16;

/**
 * The suspicions of one kind, reported from left to right. From the 16th on they share an entry, which keeps an answer
 * small when a message repeats the same trick a million times.
 */
class Listing {
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
