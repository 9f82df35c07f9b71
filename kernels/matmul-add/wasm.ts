import { add } from '../matmul/epilogue.ts';
import { matmulWasm } from '../matmul/kernels-wasm.ts';
import { matmulAdd } from './index.ts';

export const { integerDots, dots, int8, integers, panels } = matmulWasm(matmulAdd, add);
