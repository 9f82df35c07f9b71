import { fileURLToPath } from 'node:url';
import { type CategoryMap, type MapOptions, parseCategoryMap } from '../category-map.ts';
import { parseJson, readText } from './lines.ts';

/** Maps that come with this package, by the names that `--map` knows them by. */
export const builtInMaps: readonly string[] = ['openai-moderation', 'paper-to-openai'];

/** The file of a category map: of a built-in one by its name. */
export const mapFile = (nameOrFile: string): string =>
  builtInMaps.includes(nameOrFile) ? fileURLToPath(new URL(`../maps/${nameOrFile}.json`, import.meta.url)) : nameOrFile;

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
