import { blocked as blockedMatmul } from './blocked.ts';
import { store } from './epilogue.ts';
import { matmul } from './index.ts';

export const blocked = blockedMatmul(matmul, store);
