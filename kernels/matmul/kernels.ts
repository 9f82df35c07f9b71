import type { Scalars } from '../contract.ts';
import type { Epilogue } from './epilogue.ts';
import { fewRows } from './few-rows.ts';
import type { MatmulLike } from './index.ts';
import { int8 } from './int8.ts';
import { oneRow } from './one-row.ts';
import { subgroupMatrix } from './subgroup-matrix.ts';
import { subgroups } from './subgroups.ts';
import { portable, vec4 } from './tiled.ts';

/** The WGSL kernels of the family for one of its operations, in order of preference; a kernel is named here and nowhere else. */
export const matmulKernels = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) => [
  int8(operation, epilogue),
  oneRow(operation, epilogue),
  subgroupMatrix(operation, epilogue),
  subgroups(operation, epilogue),
  fewRows(operation, epilogue),
  vec4(operation, epilogue),
  portable(operation, epilogue),
];
