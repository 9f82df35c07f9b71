import type { LlamaConfig } from '../config.ts';
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
 * @throws ModelError `tensor-missing`, `tensor-mismatch` or `dtype-unsupported` that names the tensor
 */
export function checkWeights(
  config: LlamaConfig,
  build: QuantisedBuild | undefined,
  stored: TensorSource,
): CheckedWeights {
  if (!build) return { config, source: stored, storedDTypes: checkTensors(config, stored.tensors) };
  const source = new QuantisedSource(config, build, stored);
  const { wholeMatrices, blocks } = source;
  return {
    config: { ...config, wholeMatrices },
    source,
    storedDTypes: checkTensors(config, source.tensors, (name) => blocks.dtypeOf(name) === undefined),
    quantised: { name: build.name, dtype: build.dtype },
  };
}
