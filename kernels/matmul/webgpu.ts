import { store } from './epilogue.ts';
import { matmul } from './index.ts';
import { matmulKernels } from './kernels.ts';

export const variants = matmulKernels(matmul, store);
