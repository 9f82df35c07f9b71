import { add } from '../matmul/epilogue.ts';
import { matmulWasm } from '../matmul/kernels-wasm.ts';
import { matmulAdd } from './index.ts';

export const variants = matmulWasm(matmulAdd, add);
