import type { DType } from '../../kernels/contract.ts';

/**
 * The class of shapes that one measurement stands for: an operation, its dtypes, and every size and scalar rounded up
 * to a power of two.
 */
export function shapeClass(
  operation: string,
  dtypes: Readonly<Record<string, DType>>,
  values: Readonly<Record<string, number>>,
): string {
  const sizes = Object.entries(values)
    .filter(([, value]) => Number.isInteger(value) && value > 0)
    .map(([name, value]) => `${name}=${2 ** Math.ceil(Math.log2(value))}`);
  return [operation, Object.values(dtypes).join('/'), ...sizes].join(' ');
}
