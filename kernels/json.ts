/** Parses JSON that a person may have written: a byte order mark, which some editors put first, is skipped. */
export const parseJsonText = (text: string): unknown => JSON.parse(text.replace(/^\ufeff/, ''));

/**
 * Parses JSON that a stranger wrote.
 *
 * Stricter than `JSON.parse` in two ways: a name given twice in one object is refused, because readers disagree on which
 * of the two counts, and so is nesting beyond `maxDepth`, because `JSON.parse` spends memory on every level.
 * Names such as `__proto__` become plain own properties, as `JSON.parse` makes them. A byte order mark is skipped.
 *
 * @throws SyntaxError that says what is wrong; the caller knows the file and names it.
 */
export function parseJson(bytes: Uint8Array, maxDepth: number): unknown {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new SyntaxError('it is not valid UTF-8');
  }
  checkStructure(text, maxDepth);
  return JSON.parse(text);
}

/** Walks the brackets and strings of `text`, valid JSON or not, in linear time. */
function checkStructure(text: string, maxDepth: number): void {
  // The names seen so far in each open object; an open array has none.
  const open: (Set<string> | undefined)[] = [];
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '{' || char === '[') {
      if (open.length === maxDepth) throw new SyntaxError(`it is nested deeper than ${maxDepth} levels`);
      open.push(char === '{' ? new Set() : undefined);
    } else if (char === '}' || char === ']') {
      open.pop();
    } else if (char === '"') {
      const start = i++;
      while (i < text.length && text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      const names = open.at(-1);
      if (!names || !isFollowedByColon(text, i + 1)) continue;
      const quoted = text.slice(start, i + 1);
      const name: string = quoted.includes('\\') ? JSON.parse(quoted) : quoted.slice(1, -1);
      if (names.has(name)) throw new SyntaxError(`it has the name ${quote(name)} twice in one object`);
      names.add(name);
    }
  }
}

function isFollowedByColon(text: string, from: number): boolean {
  let i = from;
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i++;
  return text[i] === ':';
}

/** Whether `value` is a JSON object: neither null nor an array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

const longestQuote = 120;

/** A value out of a file as error messages show it: as JSON, cut where it is long, control characters escaped. */
export function quote(value: unknown): string {
  const text = typeof value === 'string' ? JSON.stringify(value.slice(0, longestQuote + 1)) : JSON.stringify(value);
  if (text === undefined) return 'nothing';
  return text.length <= longestQuote ? text : `${text.slice(0, longestQuote)}...`;
}
