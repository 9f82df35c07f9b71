import { gate } from '../matmul/epilogue.ts';
import { matmulWasm } from '../matmul/kernels-wasm.ts';
import { gatedMatmul } from './index.ts';

export const variants = matmulWasm(gatedMatmul, gate);
