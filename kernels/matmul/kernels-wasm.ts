import type { Scalars } from '../contract.ts';
import { dots } from './dots.ts';
import type { Epilogue } from './epilogue.ts';
import type { MatmulLike } from './index.ts';
import { int8 } from './int8-wasm.ts';
import { integerDots } from './integer-dots.ts';
import { integers } from './integers.ts';
import { panels } from './panels.ts';

/** Every WebAssembly kernel of the family for one of its operations, in the order in which they are to be preferred. */
export const matmulWasm = <S extends Scalars>(operation: MatmulLike<S>, epilogue: Epilogue) => ({
  integerDots: integerDots(operation, epilogue),
  dots: dots(operation, epilogue),
  int8: int8(operation, epilogue),
  integers: integers(operation, epilogue),
  panels: panels(operation, epilogue),
});
