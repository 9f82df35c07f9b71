/**
 * Every 8-bit floating-point number of the kind E4M3 by its bits (OCP 8-bit floating point: 4 bits of exponent with bias 7,
 * 3 of fraction, no infinities; the largest pattern of either sign is NaN).
 */
export const f8Values = /* @__PURE__ */ Float32Array.from({ length: 256 }, (_, bits) => {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits >> 3) & 15;
  const fraction = bits & 7;
  if (exponent === 15 && fraction === 7) return Number.NaN;
  return sign * (exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10));
});
