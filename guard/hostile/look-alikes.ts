import unhomoglyph from 'unhomoglyph';

/** The scripts between which letters are swapped. */
const scripts = {
  Latin: /\p{Script=Latin}/u,
  Cyrillic: /\p{Script=Cyrillic}/u,
  Greek: /\p{Script=Greek}/u,
} as const;
type Script = keyof typeof scripts;
const names = Object.keys(scripts) as Script[];

const letter = /(?![\p{Script=Common}\p{Script=Inherited}])\p{Alphabetic}/u;
const plainLetters = /^[a-z]+$/i;
const fullWidth = /[\uff21-\uff3a\uff41-\uff5a]/;
/** Text in these scripts holds full-width Latin letters by custom. */
const eastAsian = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u;

/** Words in which there is nothing to look for, as in most; `SMSка` is an acronym with an ending. */
const inOneScript =
  /^(?:[\0-\x7f]+|(?:[A-Z]{2,})?[\p{Script=Cyrillic}\p{M}]+|[\p{Script=Greek}\p{M}]+|[^\p{Script=Common}\p{Script=Latin}\p{Script=Cyrillic}\p{Script=Greek}]+)$/u;

/** Shorter mixtures are units and symbols: `μm`, `Δt`. */
const shortestWord = 3;

/**
 * Tells what the words of one text mean whose letters are disguised as others.
 *
 * A word with letters of several scripts is suspicious where it becomes a word in one of them once each letter is taken
 * for the one that looks the same (by Unicode's confusables, UTS 39): `pаypal` with a Cyrillic `а` does, `PDFом` does not. A
 * word in one script never is, whatever the script. Letters of fonts that Unicode encodes as characters (`𝗽𝗮𝘆`, `ⓟⓐⓨ`)
 * are taken for plain ones.
 */
export class LookAlikes {
  readonly #text: string;
  readonly #keepsFullWidth: boolean;
  #scriptsByUse: readonly Script[] | undefined;
  /** A letter of a script by what it looks like. */
  #imitations: ReadonlyMap<string, string> | undefined;

  constructor(text: string) {
    this.#text = text;
    this.#keepsFullWidth = eastAsian.test(text);
  }

  /** The characters that a word's characters stand for, or undefined where nothing is wrong with them. */
  resolve(word: string): string[] | undefined {
    if (word.length < shortestWord || inOneScript.test(word)) return undefined;
    const characters = [...word];
    const plain = characters.map((character) => this.#withoutFont(character));
    if (plain.filter((character) => letter.test(character)).length < shortestWord) return undefined;
    const resolved = this.#resolveScripts(plain) ?? plain;
    return resolved.some((character, i) => character !== characters[i]) ? resolved : undefined;
  }

  /** The letter that a character is a typeface of. Ligatures, `ª` and the like are Latin letters, not of a font. */
  #withoutFont(character: string): string {
    const isOfFont = fullWidth.test(character) ? !this.#keepsFullWidth : /\p{Script=Common}/u.test(character);
    const plain = isOfFont ? character.normalize('NFKC') : character;
    return plainLetters.test(plain) ? plain : character;
  }

  #resolveScripts(characters: readonly string[]): string[] | undefined {
    const letters = characters.filter((character) => letter.test(character));
    const holds = (name: Script) => letters.some((character) => scripts[name].test(character));
    // In a text of several scripts a word is likelier meant in the one that prevails.
    this.#scriptsByUse ??= scriptsByUse(this.#text);
    for (const name of this.#scriptsByUse.filter(holds)) {
      const resolved = characters.map((character) =>
        scripts[name].test(character) || !letter.test(character) ? character : this.#standsFor(character, name),
      );
      if (resolved.every((character) => character !== undefined)) return resolved;
    }
    return undefined;
  }

  /** The letters of a script that look like a letter of another one. */
  #standsFor(character: string, script: Script): string | undefined {
    const prototype = unhomoglyph(character);
    if (!plainLetters.test(prototype)) return undefined;
    if (script === 'Latin') return prototype;
    this.#imitations ??= imitations();
    return this.#imitations.get(`${script} ${prototype}`);
  }
}

function scriptsByUse(text: string): Script[] {
  const letters = new Map(names.map((name) => [name, 0]));
  for (const character of text) {
    const name = names.find((each) => scripts[each].test(character));
    if (name) letters.set(name, letters.get(name)! + 1);
  }
  return names.toSorted((a, b) => letters.get(b)! - letters.get(a)!);
}

/** Unicode lists which Latin letters others look like; this is the other direction. */
function imitations(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  const [firstGreek, lastCyrillic] = [0x370, 0x52f];
  for (let code = firstGreek; code <= lastCyrillic; code++) {
    const character = String.fromCodePoint(code);
    const script = names.find((name) => scripts[name].test(character));
    const key = `${script} ${unhomoglyph(character)}`;
    if (script && !found.has(key)) found.set(key, character);
  }
  return found;
}
