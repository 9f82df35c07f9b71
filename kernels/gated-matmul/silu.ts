/** The sigmoid-weighted linear unit, x / (1 + exp(-x)) (Elfwing et al., arXiv 1702.03118). */
export const silu = {
  of: (x: number): number => x / (1 + Math.exp(-x)),

  /** Defines `fn silu` for a WGSL type. */
  wgsl: (type: 'f32' | 'vec4<f32>'): string => /* wgsl */ `
// WGSL need not have infinities: exp may not overflow. The result is under 1e-32 there, whatever x.
fn silu(x: ${type}) -> ${type} { return x / (1.0 + exp(min(-x, ${type}(80.0)))); }
`,
};
