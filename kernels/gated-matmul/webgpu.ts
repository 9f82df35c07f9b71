import { gate } from '../matmul/epilogue.ts';
import { matmulKernels } from '../matmul/kernels.ts';
import { gatedMatmul } from './index.ts';

export const { int8, oneRow, subgroupMatrix, subgroups, fewRows, vec4, portable } = matmulKernels(gatedMatmul, gate);
