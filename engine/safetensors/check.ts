import { quote } from '../../kernels/json.ts';
import { expectedTensors, type LlamaConfig } from '../config.ts';
import { ModelError } from '../errors.ts';
import { type FloatDType, floatDTypes } from './convert.ts';
import type { TensorInfo } from './header.ts';

/**
 * Checks that `tensors` has every weight that `config` asks for, in the right shape and a float dtype. Others, such as
 * the `rotary_emb.inv_freq` of early Llama files, are tolerated.
 *
 * @returns the dtypes the weights are stored in, widest first
 * @throws ModelError `tensor-missing`, `tensor-mismatch` or `dtype-unsupported` that names the tensor
 */
export function checkTensors(config: LlamaConfig, tensors: ReadonlyMap<string, TensorInfo>): readonly FloatDType[] {
  const expected = expectedTensors(config);
  const missing = [...expected.keys()].filter((name) => !tensors.has(name));
  if (missing.length > 0) {
    const others = missing.length > 1 ? ` and ${missing.length - 1} others` : '';
    throw new ModelError(
      'tensor-missing',
      `the model's files lack ${quote(missing[0])}${others}, of ${expected.size} tensors that its config.json asks for. ` +
        'Are all weight files there, and do they belong to this config.json?',
    );
  }
  const stored = new Set<string>();
  for (const [name, shape] of expected) {
    const tensor = tensors.get(name)!;
    if (tensor.shape.join() !== shape.join()) {
      throw new ModelError(
        'tensor-mismatch',
        `tensor ${quote(name)} must have shape ${quote(shape)} by config.json, but has ${quote(tensor.shape)}.`,
      );
    }
    if (!(floatDTypes as readonly string[]).includes(tensor.dtype)) {
      throw new ModelError(
        'dtype-unsupported',
        `tensor ${quote(name)} is stored as ${tensor.dtype}, but only ${floatDTypes.join(', ')} can be read. ` +
          'Use the unquantized model.',
      );
    }
    stored.add(tensor.dtype);
  }
  return floatDTypes.filter((dtype) => stored.has(dtype));
}
