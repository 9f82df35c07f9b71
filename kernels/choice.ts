import type { DType } from './contract.ts';
import { ContractError } from './errors.ts';

/** What a choice among the variants of an operation goes by. */
interface Choosable {
  readonly name: string;
  /** Whether it computes with fewer bits than its tensors are stored in; then it is chosen only where it is named. */
  readonly approximate: boolean;
  fits(dims: Readonly<Record<string, number>>, dtypes: Readonly<Record<string, DType>>): boolean;
}

/**
 * Of those that serve these sizes, the variant that is `preferred` by name, or else the first in the order given that is
 * not approximate. All have to be ones that the device has the features for.
 * @throws ContractError `no-variant`; cannot happen where the list ends in one that serves all
 */
export function chooseVariant<V extends Choosable>(
  variants: readonly V[],
  dims: Readonly<Record<string, number>>,
  dtypes: Readonly<Record<string, DType>>,
  preferred?: string,
): V {
  const serving = variants.filter((variant) => variant.fits(dims, dtypes));
  const chosen = serving.find(({ name }) => name === preferred) ?? serving.find(({ approximate }) => !approximate);
  if (chosen) return chosen;
  throw new ContractError('no-variant', `No kernel serves ${JSON.stringify(dims)} with ${JSON.stringify(dtypes)}.`);
}
