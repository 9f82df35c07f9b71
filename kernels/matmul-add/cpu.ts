import { blocked as blockedMatmul } from '../matmul/blocked.ts';
import { add } from '../matmul/epilogue.ts';
import { matmulAdd } from './index.ts';

export const blocked = blockedMatmul(matmulAdd, add);
