import { z } from 'zod';
import { isObject, quote } from '../../kernels/json.ts';
import { invalid, object, text, unsupported, validate } from '../config-fields.ts';
import { awq } from './awq.ts';
import { bitsAndBytes } from './bitsandbytes.ts';
import type { QuantisedBuild } from './build.ts';
import { compressedTensors } from './compressed-tensors.ts';
import { gptq } from './gptq.ts';

/** What reads a `quantization_config`, by its `quant_method`. */
const methods: Readonly<Record<string, (json: unknown, source: string) => QuantisedBuild>> = {
  gptq,
  awq,
  'compressed-tensors': compressedTensors,
  bitsandbytes: bitsAndBytes,
};

/** Where it is said; the second is what compressed-tensors wrote before 0.6. */
const fields = ['quantization_config', 'compression_config'] as const;

const schema = z.object({ quant_method: text.nullish() }, object);

/**
 * How a checkpoint holds its matrices, as its config.json says; undefined where it says nothing.
 * @throws ModelError `architecture-unsupported` that names what is not read, `config-invalid`; both name the field
 */
export function quantisedBuildOf(json: unknown, source: string): QuantisedBuild | undefined {
  if (!isObject(json)) return undefined;
  const field = fields.find((name) => json[name] != null);
  if (field === undefined) return undefined;
  const config = json[field];
  const place = `${source}: '${field}'`;
  const { quant_method: method } = validate(schema, config, place);
  if (method == null) throw invalid(place, `'quant_method' must be a string, but is ${quote(method)}.`);
  const read = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (read) return read(config, place);
  throw unsupported(
    place,
    `${Object.keys(methods).join(', ')} are read, but 'quant_method' is ${quote(method)}. Take a build in one of those, or ` +
      'the unquantized model: the engine quantizes by itself (q8, q4).',
  );
}
