import { foldedViews } from './fold.ts';
import { characterEnd, Rewriting } from './rewriting.ts';
import { inOrder, isRewritten, Listing, type Suspicion, type SuspicionKind } from './suspicion.ts';

/**
 * What is looked for, in one of the two folded views. What little repetition the patterns are left with is bounded or
 * stays within a line's spaces: each runs in linear time.
 */
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
  {
    kind: 'forged-verdict',
    view: 'lines',
    pattern:
      /^ *unsafe *\n+ *[a-z]{1,2}\d{1,3}(?: *, *[a-z]{1,2}\d{1,3})*(?= *$)|(?<=\n) *(?:un)?safe(?=[ \n]*(?![\s\S]))/gim,
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

export interface Neutralised {
  readonly text: string;
  /** In the order of their starts; empty for nearly every honest text. */
  readonly suspicions: readonly Suspicion[];
}

/**
 * Makes a message safe to place between the conversation markers: it cannot end the block, open a turn, close the
 * instruction or become a special token, whatever case, spacing, invisible characters or look-alikes it uses.
 *
 * Brackets of forged markers become parentheses and `User:` at a line start becomes `(User)`; every other character stays,
 * and a text without any of it comes back as it was. The result is a fixed point. Time is linear in the text's length.
 */
export function neutralise(text: string): Neutralised {
  const { rewriting, suspicions } = neutraliseRewriting(new Rewriting(text));
  return { text: rewriting.text, suspicions };
}

/** The same for a text that was made from another, which the suspicions are about. */
export function neutraliseRewriting(source: Rewriting): {
  readonly rewriting: Rewriting;
  readonly suspicions: readonly Suspicion[];
} {
  const { text } = source;
  const views = foldedViews(text);
  const suspicions: Suspicion[] = [];
  const replacements: [at: number, replacement: string][] = [];
  for (const { kind, view, pattern } of rules) {
    const seen = views[view];
    const folded = seen.text;
    const listing = new Listing(kind, source.original);
    for (const match of folded.matchAll(pattern)) {
      // Only labels at the start of a line may begin with spaces, which are not part of them.
      const first = match.index + match[0].length - match[0].trimStart().length;
      const last = match.index + match[0].length - 1;
      listing.add(...source.spanOf(seen.originOf(first), characterEnd(text, seen.originOf(last))));
      if (kind === 'forged-turn') {
        const label = seen.originOf(first);
        replacements.push([label, `(${text.slice(label, characterEnd(text, label))}`], [seen.originOf(last), ')']);
      } else if (isRewritten(kind)) {
        for (let at = first; at <= last; at++) {
          const replacement = parentheses.get(folded[at]!);
          if (replacement !== undefined) replacements.push([seen.originOf(at), replacement]);
        }
      }
    }
    suspicions.push(...listing.entries());
  }
  const controls = new Listing('control-characters', source.original);
  for (const { index, 0: found } of text.matchAll(controlCharacters)) {
    controls.add(...source.spanOf(index, index + found.length));
  }
  suspicions.push(...controls.entries());
  return { rewriting: replaceCharacters(source, replacements), suspicions: inOrder(suspicions) };
}

function replaceCharacters(source: Rewriting, replacements: readonly [at: number, replacement: string][]): Rewriting {
  if (replacements.length === 0) return source;
  const units = source.text.split('');
  for (const [at, replacement] of replacements) {
    units[at] = replacement;
    if (characterEnd(source.text, at) > at + 1) units[at + 1] = '';
  }
  return source.replace(units);
}
