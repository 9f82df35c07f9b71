/**
 * Unicode's canonical order of combining marks, for texts in which nobody means well: engines sort the marks on one letter
 * by insertion, so that a hundred thousand of two kinds in turn take five seconds, and a million eight minutes.
 */

/** Runs below this length are left to `String.normalize`. */
const shortestRun = 32;
const hasLongRun = new RegExp(`\\p{M}{${shortestRun}}`, 'u');
const isMark = /^\p{M}/u;

/** The marks of the smallest and the largest combining class that there is, 1 and 240. */
const [smallestClass, largestClass] = ['\u0334', '\u0345'];

const nfd = (text: string): string => text.normalize('NFD');

/** Whether two marks, both decomposed, are to change places: the class of the first is the larger one. */
const swaps = (first: string, second: string): boolean => nfd(first + second) !== first + second;

/** Whether a decomposed mark stays where it is, as those of class 0 do. */
const stays = (mark: string): boolean => !swaps(largestClass, mark) && !swaps(mark, smallestClass);

/**
 * A text that has the same normalisation forms as the given one, its long runs of marks decomposed and put in order. Time
 * is linear in the length of the text.
 */
export function orderMarks(text: string): string {
  if (!hasLongRun.test(text)) return text;
  const decomposed = new Map<string, readonly string[]>();
  const marksOf = (character: string): readonly string[] => {
    const known = decomposed.get(character) ?? (isMark.test(character) ? [...nfd(character)] : []);
    decomposed.set(character, known);
    return known;
  };
  const order = new MarkOrder();
  let ordered = '';
  for (const character of text) {
    const marks = marksOf(character);
    if (marks.length === 0) ordered += order.flush() + character;
    for (const mark of marks) {
      if (order.stays(mark)) ordered += order.flush() + mark;
      else order.add(mark);
    }
  }
  return ordered + order.flush();
}

/** Marks on their way into order. */
class MarkOrder {
  readonly #staying = new Map<string, boolean>();
  #run: string[] = [];

  stays(mark: string): boolean {
    const known = this.#staying.get(mark) ?? stays(mark);
    this.#staying.set(mark, known);
    return known;
  }

  add(mark: string): void {
    this.#run.push(mark);
  }

  /** The marks that were added, by class, those of a class in the order that they came in. */
  flush(): string {
    if (this.#run.length === 0) return '';
    const kinds = [...new Set(this.#run)].sort((a, b) => Number(swaps(a, b)) - Number(swaps(b, a)));
    const classes = new Map<string, string[]>();
    let marks: string[] = [];
    for (const [i, kind] of kinds.entries()) {
      if (i > 0 && swaps(kind, kinds[i - 1]!)) marks = [];
      classes.set(kind, marks);
    }
    for (const mark of this.#run) classes.get(mark)!.push(mark);
    this.#run = [];
    return [...new Set(classes.values())].map((ofClass) => ofClass.join('')).join('');
  }
}
