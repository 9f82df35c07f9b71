import { ContractError } from '../kernels/errors.ts';
import { kernels as wasm } from './wasm/variants.ts';
import { kernels as webgpu } from './webgpu/variants.ts';

/** Names of variants by the operations that are to run by them wherever they serve. */
export type Preference = Readonly<Record<string, string>>;

/** Rounds activations to bytes beside q8 weights, where a device has kernels for that: faster, and less exact. */
export const activationsInBytes = {
  matmul: 'int8',
  'matmul-add': 'int8',
  'gated-matmul': 'int8',
} as const satisfies Preference;

/**
 * Checks a preference against the variants of all kinds of devices: one that names what another device has serves as
 * well, since `auto` may come down to any. The members of a family depend on the device, so its name is enough.
 * @throws ContractError `no-variant` for one that there is not
 */
export function assertPreference(preference: Preference): void {
  for (const [operation, name] of Object.entries(preference)) {
    const known = [...(own(wasm, operation) ?? []), ...(own(webgpu, operation) ?? [])];
    if (
      known.some((kernel) => (kernel.kind === 'webgpu-family' ? name.startsWith(kernel.name) : kernel.name === name))
    ) {
      continue;
    }
    const names = [...new Set(known.map((kernel) => kernel.name))];
    throw new ContractError(
      'no-variant',
      `'${operation}' has no variant '${name}'; ${names.length > 0 ? `there are ${names.join(', ')}` : 'it is no operation'}.`,
    );
  }
}

const own = <T>(record: Readonly<Record<string, T>>, key: string): T | undefined =>
  Object.hasOwn(record, key) ? record[key] : undefined;
