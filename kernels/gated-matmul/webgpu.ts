import { gate } from '../matmul/epilogue.ts';
import { matmulKernels } from '../matmul/kernels.ts';
import { gatedMatmul } from './index.ts';

export const variants = matmulKernels(gatedMatmul, gate);
