import { store } from './epilogue.ts';
import { matmul } from './index.ts';
import { matmulKernels } from './kernels.ts';

export const { int8, oneRow, subgroupMatrix, subgroups, fewRows, vec4, portable } = matmulKernels(matmul, store);
