import { quote } from '../../kernels/json.ts';
import { ModelError } from '../errors.ts';
import { firstOfEachCode, type Problems } from '../problems.ts';
import { type FloatDType, floatDTypes } from './convert.ts';
import type { TensorSource } from './source.ts';

/**
 * Checks that `tensors` has every weight that is `expected`, in the right shape and a float dtype. Others, such as
 * the `rotary_emb.inv_freq` of early Llama files, are tolerated.
 *
 * @param problems where `tensor-missing`, `tensor-mismatch` and `dtype-unsupported` are noted, each with a file and a tensor
 * @param counts whether a tensor's dtype is one of those to be returned
 * @returns the dtypes the weights are stored in, widest first
 */
export function checkTensors(
  expected: ReadonlyMap<string, readonly number[]>,
  { tensors, fileOf }: Pick<TensorSource, 'tensors' | 'fileOf'>,
  problems: Problems,
  counts: (name: string) => boolean = () => true,
): readonly FloatDType[] {
  const missing = [...expected.keys()].filter((name) => !tensors.has(name));
  if (missing.length > 0) {
    const others = missing.length > 1 ? ` and ${missing.length - 1} others` : '';
    const quantised = [...tensors.keys()].find((name) => /\.(?:qweight|weight_packed|SCB)$/.test(name));
    problems.note(
      new ModelError(
        'tensor-missing',
        `the model's files lack ${quote(missing[0])}${others}, of ${expected.size} tensors that its config.json asks for. ` +
          (quantised === undefined
            ? 'Are all weight files there, and do they belong to this config.json?'
            : `They hold ${quote(quantised)}, of a quantised build, but config.json has no 'quantization_config': take the build's own.`),
      ),
    );
  }
  const stored = new Set<string>();
  const misfits: ModelError[] = [];
  for (const [name, shape] of expected) {
    const tensor = tensors.get(name);
    if (!tensor) continue;
    const subject = subjectOf(name, fileOf);
    if (tensor.shape.join() !== shape.join()) {
      const message = `${subject} must have shape ${quote(shape)} by config.json, but has ${quote(tensor.shape)}.`;
      misfits.push(new ModelError('tensor-mismatch', message));
    } else if (!(floatDTypes as readonly string[]).includes(tensor.dtype)) {
      const message = `${subject} is stored as ${tensor.dtype}, but only ${floatDTypes.join(', ')} can be read. Use the unquantized model.`;
      misfits.push(new ModelError('dtype-unsupported', message));
    } else if (counts(name)) stored.add(tensor.dtype);
  }
  problems.note(...firstOfEachCode(misfits));
  return floatDTypes.filter((dtype) => stored.has(dtype));
}

/** What messages call a tensor: by its file, where that is known, and its name. */
export function subjectOf(name: string, fileOf: TensorSource['fileOf']): string {
  const file = fileOf?.(name);
  return `${file === undefined ? '' : `${file}: `}tensor ${quote(name)}`;
}
