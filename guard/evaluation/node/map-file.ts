import { type CategoryMap, type MapOptions, parseCategoryMap } from '../category-map.ts';
import { parseJson, readText } from './lines.ts';

/** Reads a category map. @throws EvaluationError as `parseCategoryMap`, naming lines; `data-not-found` */
export async function readMap(file: string, options: Omit<MapOptions, 'lineOf'>): Promise<CategoryMap> {
  const text = await readText(file);
  return parseCategoryMap(parseJson(text, file, 'map-invalid'), file, {
    ...options,
    lineOf: (label) => lineOfKey(text, label),
  });
}

/** The line, from 1, on which a JSON text has a key first. */
function lineOfKey(text: string, key: string): number | undefined {
  for (const { 0: quoted, index } of text.matchAll(/"(?:[^"\\]|\\.)*"(?=\s*:)/g)) {
    if (JSON.parse(quoted) === key) return text.slice(0, index).split('\n').length;
  }
  return undefined;
}
