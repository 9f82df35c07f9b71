import type { Floats, Reference } from '../cpu.ts';
import type { ropeAndCache } from './index.ts';

type Contract = typeof ropeAndCache;

export const reference: Reference<Contract['tensors'], Contract['scalars']> = (
  { projections, positions, slots, cos, sin, queries, keys, values },
  { tokens, width, heads, keyValueHeads, headDim, half, capacity },
) => {
  /** Writes `count` heads, those that begin at `from`, to `out` from `to` on. */
  const turn = (from: number, count: number, angles: number, out: Floats, to: number) => {
    for (let head = 0; head < count * headDim; head += headDim) {
      for (let i = 0; i < half; i++) {
        const a = projections[from + head + i]!;
        const b = projections[from + head + half + i]!;
        const c = cos[angles + i]!;
        const s = sin[angles + i]!;
        out[to + head + i] = a * c - b * s;
        out[to + head + half + i] = b * c + a * s;
      }
    }
  };
  const kept = keyValueHeads * headDim;
  for (let token = 0; token < tokens; token++) {
    const start = token * width;
    const angles = positions[token]! * half;
    turn(start, heads, angles, queries, token * heads * headDim);
    const slot = slots[token]!;
    if (slot >= capacity) continue;
    const firstKey = start + heads * headDim;
    turn(firstKey, keyValueHeads, angles, keys, slot * kept);
    for (let i = 0; i < kept; i++) values[slot * kept + i] = projections[firstKey + kept + i]!;
  }
};
