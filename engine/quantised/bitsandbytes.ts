import { z } from 'zod';
import { quote } from '../../kernels/json.ts';
import { flag, object, unsupported, validate } from '../config-fields.ts';
import { ModelError } from '../errors.ts';
import { anyFloat, floatsOf, type QuantisedBuild } from './build.ts';
import { QuantisedMatrix } from './matrix.ts';

const schema = z.object({ load_in_8bit: flag.nullish(), load_in_4bit: flag.nullish() }, object);

/**
 * LLM.int8() (arXiv 2208.07339) as bitsandbytes writes it, rows as in the model:
 *
 * - `weight`, I8 (outputs, inputs), `SCB` (outputs): `weight * SCB / 127`
 * - `weight_format`, U8: 0 where rows lie one after another
 *
 * What it says of outliers is about activations, which stay exact here.
 *
 * @throws ModelError `config-invalid`, `architecture-unsupported`
 */
export function bitsAndBytes(json: unknown, source: string): QuantisedBuild {
  const { load_in_8bit: is8, load_in_4bit: is4 } = validate(schema, json, source);
  if (!is8 || is4) {
    throw unsupported(
      source,
      `of bitsandbytes 8 bits are read ('load_in_8bit'), but this is ${is4 ? '4 bits' : 'of no width that it tells'}. ` +
        'Take another build, or the unquantized model.',
    );
  }
  return {
    name: 'bitsandbytes, 8 bits, a scale for each output',
    dtype: 'q8',
    parts: (outputs, inputs) => ({
      weight: { dtypes: ['I8'], shapes: [[outputs, inputs]] },
      SCB: { dtypes: anyFloat, shapes: [[outputs]] },
      weight_format: { dtypes: ['U8'], shapes: [[], [1]], optional: true },
    }),
    decode(outputs, inputs, { weight, SCB, weight_format: format }) {
      if (format && format.bytes[0] !== 0) {
        throw new ModelError(
          'tensor-mismatch',
          `tensor ${quote(format.info.name)} must be 0, rows one after another, but is ${format.bytes[0]}. ` +
            'Load and save the model with a current bitsandbytes.',
        );
      }
      return new QuantisedMatrix({
        outputs,
        inputs,
        kind: 'i8',
        groupSize: inputs,
        scales: floatsOf(SCB!).map((largest) => largest / 127),
        readQuants: (firstOutput, target) => {
          target.set(weight!.bytes.subarray(firstOutput * inputs, firstOutput * inputs + target.length));
        },
      });
    },
  };
}
