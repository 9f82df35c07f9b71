import { expectedTensors, type LlamaConfig } from '../config.ts';
import type { Problems } from '../problems.ts';
import { checkTensors } from '../safetensors/check.ts';
import type { FloatDType } from '../safetensors/convert.ts';
import type { TensorSource } from '../safetensors/source.ts';
import type { QuantisedBuild } from './build.ts';
import { QuantisedSource } from './source.ts';

/** Weights that were found to fit a configuration, under the names that its architecture has. */
export interface CheckedWeights {
  readonly config: LlamaConfig;
  readonly source: TensorSource;
  /** The dtypes that tensors are stored in, widest first, apart from quantised matrices. */
  readonly storedDTypes: readonly FloatDType[];
  readonly quantised?: Pick<QuantisedBuild, 'name' | 'dtype'>;
}

/**
 * Checks that `stored` has the weights that `config` asks for, as `build` holds them where there is one.
 * @param problems where `tensor-missing`, `tensor-mismatch`, `dtype-unsupported` and `architecture-unsupported` are noted,
 *   which name the tensor
 */
export function checkWeights(
  config: LlamaConfig,
  build: QuantisedBuild | undefined,
  stored: TensorSource,
  problems: Problems,
): CheckedWeights {
  const expected = expectedTensors(config);
  if (!build) return { config, source: stored, storedDTypes: checkTensors(expected, stored, problems) };
  const source = new QuantisedSource(config, build, stored, problems);
  const { wholeMatrices, blocks, unreadable } = source;
  for (const name of unreadable) expected.delete(name);
  return {
    config: { ...config, wholeMatrices },
    source,
    storedDTypes: checkTensors(expected, source, problems, (name) => blocks.dtypeOf(name) === undefined),
    quantised: { name: build.name, dtype: build.dtype },
  };
}
