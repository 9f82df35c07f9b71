/** Uniform numbers in [0, 1) that depend on the seed alone, with 32 bits of state (Tommy Ettinger's mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** How many of `normals` are drawn before they repeat: a prime, so that no two rows of a matrix are alike. */
const period = 65_537;

/** Standard normal numbers. Drawing is slow, so those of large tensors repeat. */
export function normals(random: () => number, length: number): Float64Array {
  const numbers = new Float64Array(length);
  for (let i = 0; i < Math.min(length, period); i++) numbers[i] = standardNormal(random);
  for (let i = period; i < length; i += period) numbers.copyWithin(i, 0, period);
  return numbers;
}

/** A standard normal number (Box and Muller). */
export const standardNormal = (random: () => number): number =>
  Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
