import { z } from 'zod';
import { isObject, quote } from '../kernels/json.ts';
import type { RopeScaling } from '../kernels/rope-and-cache/index.ts';
import { invalid, number, object, positive, text, unsupported, validate, whole } from './config-fields.ts';

const context = whole(1, 2 ** 24);
const shared = { rope_theta: positive(1e12).nullish(), partial_rotary_factor: number.nullish() };
const parameters = z.looseObject({ ...shared, rope_type: text.nullish(), type: text.nullish() }, object).nullish();
const schema = z.object({
  ...shared,
  original_max_position_embeddings: context.nullish(),
  /** As transformers writes it before version 5, and since. */
  rope_scaling: parameters,
  rope_parameters: parameters,
});
type Fields = z.infer<typeof schema>;
type Place = 'rope_scaling' | 'rope_parameters';

const factor = z
  .number({ error: 'must be a number from 1 to 1000000' })
  .min(1, { error: 'must be a number from 1 to 1000000' })
  .max(1e6, { error: 'must be a number from 1 to 1000000' });
const linear = z.object({ factor });
const llama3 = z.object({
  factor,
  low_freq_factor: positive(1e6),
  high_freq_factor: positive(1e6),
  original_max_position_embeddings: context,
});

/** A field by its full name, and what it says. */
interface Said<T> {
  readonly name: string;
  readonly value: T;
}

/**
 * How config.json has RoPE turn: its base, and how it is stretched. What is said in several places has to be the same
 * everywhere, since readers differ in which of them counts.
 * @throws ModelError `architecture-unsupported`, `config-invalid`
 */
export function ropeOf(json: unknown, source: string): { ropeTheta: number; ropeScaling?: RopeScaling } {
  const fields = validate(schema, json, source);
  const places = (['rope_scaling', 'rope_parameters'] as const).filter((place) => fields[place]);
  const everywhere = (key: keyof typeof shared): Said<number>[] =>
    [
      { name: key, value: fields[key] },
      ...places.map((place) => ({ name: `${place}.${key}`, value: fields[place]![key] })),
    ].filter((said): said is Said<number> => typeof said.value === 'number');
  for (const { name, value } of everywhere('partial_rotary_factor')) {
    if (value !== 1) throw unsupported(source, `'${name}' must be 1, but is ${value}.`);
  }
  const ropeScaling = agreed(
    places.map((place) => ({ name: place, value: scalingOf(json, fields, place, source) })),
    source,
  );
  const ropeTheta = agreed(everywhere('rope_theta'), source) ?? 10_000;
  return { ropeTheta, ...(ropeScaling === 'default' || !ropeScaling ? {} : { ropeScaling }) };
}

function scalingOf(json: unknown, fields: Fields, place: Place, source: string): RopeScaling | 'default' {
  const values = fields[place]!;
  const byLayer = Object.entries(values).find(([key, value]) => isObject(value) && !(key in llama3.shape));
  if (byLayer) {
    throw unsupported(source, `'${place}.${byLayer[0]}' is an object: RoPE by kinds of layers is not supported.`);
  }
  const named = (['rope_type', 'type'] as const)
    .filter((key) => typeof values[key] === 'string')
    .map((key) => ({ name: `${place}.${key}`, value: values[key] }));
  // A `rope_scaling` that names no type scales somehow; `rope_parameters` without one are the plain ones.
  const type = agreed(named, source) ?? (place === 'rope_parameters' ? 'default' : undefined);
  switch (type) {
    case 'default':
      return type;
    case 'linear':
      return { type, factor: validate(z.object({ [place]: linear }), json, source)[place]!.factor };
    case 'llama3': {
      const found = validate(z.object({ [place]: llama3 }), json, source)[place]!;
      const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: own } = found;
      if (low >= high) {
        throw invalid(source, `'${place}.high_freq_factor' must be above 'low_freq_factor', ${low}, but is ${high}.`);
      }
      const outer = fields.original_max_position_embeddings ?? own;
      const name = 'original_max_position_embeddings';
      agreed(
        [
          { name: `${place}.${name}`, value: own },
          { name, value: outer },
        ],
        source,
      );
      return {
        type,
        factor,
        lowFrequencyFactor: low,
        highFrequencyFactor: high,
        originalMaxPositionEmbeddings: own,
      };
    }
    default:
      throw unsupported(
        source,
        `'${place}' must be absent or of type default, linear or llama3, but is of type ${quote(type)}.`,
      );
  }
}

/** What all of them say; undefined where there are none. @throws ModelError `config-invalid` where they differ */
function agreed<T>(said: readonly Said<T>[], source: string): T | undefined {
  const [first, ...others] = said;
  const other = others.find(({ value }) => JSON.stringify(value) !== JSON.stringify(first?.value));
  if (first && other) {
    throw invalid(
      source,
      `'${first.name}' is ${quote(first.value)} but '${other.name}' is ${quote(other.value)}; they must agree.`,
    );
  }
  return first?.value;
}
