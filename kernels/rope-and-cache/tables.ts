/** How RoPE is stretched for contexts longer than those that a model was first trained on. */
export type RopeScaling =
  /** Every frequency divided by `factor` (Chen et al., arXiv 2306.15595). */
  | { readonly type: 'linear'; readonly factor: number }
  /**
   * Of Llama 3.1, by the name it has in transformers: a pair that turns fewer than `lowFrequencyFactor` times over the
   * original context is slowed down by `factor`, one that turns more than `highFrequencyFactor` times is left alone, and
   * between the two the one changes into the other.
   */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFrequencyFactor: number;
      readonly highFrequencyFactor: number;
      /** Tokens. */
      readonly originalMaxPositionEmbeddings: number;
    };

/** The angles in radians by which the pairs of a head turn from one position to the next: theta^(-2 i / headDim), scaled. */
export function ropeFrequencies(headDim: number, theta: number, scaling?: RopeScaling): Float64Array {
  const plain = Float64Array.from({ length: headDim / 2 }, (_, i) => theta ** ((-2 * i) / headDim));
  if (!scaling) return plain;
  const { factor } = scaling;
  if (scaling.type === 'linear') return plain.map((frequency) => frequency / factor);
  const { lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositionEmbeddings: context } = scaling;
  return plain.map((frequency) => {
    const turns = (context * frequency) / (2 * Math.PI);
    const kept = Math.min(Math.max((turns - low) / (high - low), 0), 1);
    return (1 - kept) * (frequency / factor) + kept * frequency;
  });
}

/** The angles' cosines and sines, `(positions, headDim / 2)` each: position * frequency, made in float64. */
export function ropeTables(
  positions: number,
  headDim: number,
  theta: number,
  scaling?: RopeScaling,
): { cos: Float32Array; sin: Float32Array } {
  const half = headDim / 2;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (const [i, frequency] of ropeFrequencies(headDim, theta, scaling).entries()) {
    for (let position = 0; position < positions; position++) {
      cos[position * half + i] = Math.cos(position * frequency);
      sin[position * half + i] = Math.sin(position * frequency);
    }
  }
  return { cos, sin };
}
