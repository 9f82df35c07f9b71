import { z } from 'zod';
import type { Architecture } from './architectures.ts';
import { flag, invalid, unsupported, validate, whole } from './config-fields.ts';

const layerTypes = ['full_attention', 'sliding_attention'] as const;
const schema = z.object({
  sliding_window: whole(1, 2 ** 24).nullish(),
  use_sliding_window: flag.nullish(),
  max_window_layers: whole(0, 2 ** 24).nullish(),
  layer_types: z
    .array(z.enum(layerTypes, { error: `must be ${layerTypes.join(' or ')}` }), { error: 'must be a list of strings' })
    .nullish(),
});

/**
 * How many keys a query sees at most in each layer, `null` where it sees all before it; undefined where it does so in
 * every layer.
 * @throws ModelError `architecture-unsupported`, `config-invalid`
 */
export function windowsOf(
  { windows, defaults }: Architecture,
  numHiddenLayers: number,
  json: unknown,
  source: string,
): (number | null)[] | undefined {
  const fields = validate(schema, json, source);
  const used = windows === 'every layer' || (windows === 'by layer' && fields.use_sliding_window === true);
  const given = fields.sliding_window === undefined ? defaults.sliding_window : fields.sliding_window;
  const window = used ? (given ?? null) : null;
  const full = windows === 'by layer' ? (fields.max_window_layers ?? defaults.max_window_layers ?? 0) : 0;
  const usual = Array.from({ length: numHiddenLayers }, (_, layer) =>
    window !== null && layer >= full ? 'sliding_attention' : 'full_attention',
  );
  const types = fields.layer_types ?? usual;
  if (types.length !== numHiddenLayers) {
    throw invalid(
      source,
      `'layer_types' must have an entry for each of 'num_hidden_layers', ${numHiddenLayers}, but has ${types.length}.`,
    );
  }
  if (windows !== 'by layer' && types.join() !== usual.join()) {
    throw unsupported(source, `'layer_types' must be ${usual[0]} in every layer, as in this architecture.`);
  }
  if (window === null && types.includes('sliding_attention')) {
    const cause = used ? "'sliding_window' is null" : "'use_sliding_window' is not true";
    throw invalid(source, `'layer_types' has layers of sliding_attention, but ${cause}.`);
  }
  if (!types.includes('sliding_attention')) return undefined;
  return types.map((type) => (type === 'sliding_attention' ? window : null));
}
