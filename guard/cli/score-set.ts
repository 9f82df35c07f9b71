import { type CategoryMap, parseCategoryMap } from '../evaluation/category-map.ts';
import { type FormatName, formats } from '../evaluation/data.ts';
import type { Format } from '../evaluation/formats/format.ts';
import { type EvaluateOptions, evaluateFile } from '../evaluation/node/evaluate-file.ts';
import { readJsonFile } from '../evaluation/node/lines.ts';
import type { Run } from '../evaluation/run.ts';
import type { Guard } from '../guard.ts';
import type { Policy } from '../policy.ts';
import { countBar } from './progress.ts';

/** Scores a labelled set, with a bar on a terminal. */
export async function scoreWithBar(guard: Guard, file: string, options: EvaluateOptions): Promise<Run> {
  let bar: ReturnType<typeof countBar> | undefined;
  try {
    return await evaluateFile(guard, file, {
      ...options,
      onStart: (total, scored) => {
        bar = countBar('Scoring', total, scored);
      },
      onScored: () => bar?.step(),
    });
  } finally {
    bar?.stop();
  }
}

/** Reads a category map for a format's labels and a policy's codes. @throws EvaluationError */
export async function readMap(file: string, policy: Policy, format: FormatName): Promise<CategoryMap> {
  const { vocabulary }: Format = formats[format];
  const json = await readJsonFile(file, 'map-invalid');
  return parseCategoryMap(json, file, { policy, ...(vocabulary ? { vocabulary } : {}) });
}

/** A file's name without what says that it is data. */
export const stemOf = (file: string): string => file.replace(/(?:\.(?:jsonl|ndjson|json))?(?:\.gz)?$/, '');
