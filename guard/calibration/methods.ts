import * as z from 'zod';
import { CalibrationError } from '../errors.ts';
import { countClasses, type Labelled } from '../evaluation/metrics.ts';
import { batch } from './batch.ts';
import { contextual } from './contextual.ts';
import { isotonic } from './isotonic.ts';
import type { Material, Method } from './method.ts';
import { platt } from './platt.ts';
import { temperature } from './temperature.ts';

export const methods = { temperature, platt, isotonic, contextual, batch };

type Methods = typeof methods;
export type MethodName = keyof Methods;
export const methodNames = Object.keys(methods) as MethodName[];

type ParametersOf<M extends MethodName> = Methods[M] extends Method<keyof Material, infer P> ? P : never;

/** From scores to probabilities: what a method made of its material, as it stands in the file. */
export type CalibrationMap<M extends MethodName = MethodName> = {
  readonly [N in M]: { readonly method: N; readonly parameters: ParametersOf<N> };
}[M];

const [first, ...others] = methodNames.map((method) =>
  z.strictObject({ method: z.literal(method), parameters: methods[method].parameters }),
);

export const calibrationMap = z.discriminatedUnion('method', [first!, ...others]) as z.ZodType<CalibrationMap>;

/** Any method, its parameters being those of its own maps. */
const methodOf = (name: MethodName) => methods[name] as Method<keyof Material, unknown>;

/**
 * Fits a map on what its method needs.
 *
 * @param what the samples, as the error message calls them
 * @throws CalibrationError `fit-impossible` where there is too little: no samples, or of known labels of one kind only
 */
export function fitMap(name: MethodName, material: Material, what: string): CalibrationMap {
  const method = methodOf(name);
  if (method.needs === 'labels') assertBothClasses(name, material, what);
  else if (material[method.needs].length === 0) {
    throw new CalibrationError(
      'fit-impossible',
      `${name} needs scores to be fitted on, but of ${what} there are none.`,
    );
  }
  return { method: name, parameters: method.fit(material[method.needs]) } as CalibrationMap;
}

/** The probability of a score, both from 0 to 1. */
export const applyMap = ({ method, parameters }: CalibrationMap, score: number): number =>
  methodOf(method).apply(parameters, score);

/** What a reader must know of a map beside its figures; undefined where there is nothing. */
export const noteOn = ({ method, parameters }: CalibrationMap): string | undefined =>
  methodOf(method).note?.(parameters);

/** Labelled samples with probabilities in place of their scores. */
export const calibratedBy = (map: CalibrationMap, samples: readonly Labelled[]): Labelled[] =>
  samples.map(({ score, label }) => ({ score: applyMap(map, score), label }));

function assertBothClasses(name: MethodName, { labels }: Material, what: string): void {
  const { positives, negatives } = countClasses(labels);
  if (positives > 0 && negatives > 0) return;
  const missing = positives === 0 ? 'unsafe' : 'safe';
  throw new CalibrationError(
    'fit-impossible',
    `${name} learns from safe and unsafe samples, but of ${what} ${labels.length} are labelled and none of them ` +
      `${missing}. Add some, or take a method that needs no labels: contextual or batch.`,
  );
}
