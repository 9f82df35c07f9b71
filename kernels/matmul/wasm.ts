import { store } from './epilogue.ts';
import { matmul } from './index.ts';
import { matmulWasm } from './kernels-wasm.ts';

export const { integerDots, dots, int8, integers, panels } = matmulWasm(matmul, store);
