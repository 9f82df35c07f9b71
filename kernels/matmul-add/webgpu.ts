import { add } from '../matmul/epilogue.ts';
import { matmulKernels } from '../matmul/kernels.ts';
import { matmulAdd } from './index.ts';

export const variants = matmulKernels(matmulAdd, add);
