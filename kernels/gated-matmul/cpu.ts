import { blocked as blockedMatmul } from '../matmul/blocked.ts';
import { gate } from '../matmul/epilogue.ts';
import { gatedMatmul } from './index.ts';

export const blocked = blockedMatmul(gatedMatmul, gate);
