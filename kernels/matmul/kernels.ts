import type { Scalars } from '../contract.ts';
import type { Epilogue } from './epilogue.ts';
import { fewRows } from './few-rows.ts';
import type { MatmulLike } from './index.ts';
import { int8 } from './int8.ts';
import { oneRow } from './one-row.ts';
import { subgroupMatrix } from './subgroup-matrix.ts';
import { subgroups } from './subgroups.ts';
import { portable, vec4 } from './tiled.ts';

/** Every WGSL kernel of the family for one of its operations, in the order in which they are to be preferred; int8 is for who names it. */
export const matmulKernels = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) => ({
  int8: int8(operation, epilogue),
  oneRow: oneRow(operation, epilogue),
  subgroupMatrix: subgroupMatrix(operation, epilogue),
  subgroups: subgroups(operation, epilogue),
  fewRows: fewRows(operation, epilogue),
  vec4: vec4(operation, epilogue),
  portable: portable(operation, epilogue),
});
