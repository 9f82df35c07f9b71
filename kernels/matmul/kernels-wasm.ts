import type { Scalars } from '../contract.ts';
import { dots } from './dots.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';
import { int8 } from './int8-wasm.ts';
import { integerDots } from './integer-dots.ts';
import { integers } from './integers.ts';
import { panels } from './panels.ts';

/** The WebAssembly kernels of the family for one of its operations, in order of preference; named here and nowhere else. */
export const matmulWasm = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) => [
  integerDots(operation, epilogue),
  dots(operation, epilogue),
  int8(operation, epilogue),
  integers(operation, epilogue),
  panels(operation, epilogue),
];
