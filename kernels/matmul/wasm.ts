import { store } from './epilogue.ts';
import { matmul } from './index.ts';
import { matmulWasm } from './kernels-wasm.ts';

export const variants = matmulWasm(matmul, store);
