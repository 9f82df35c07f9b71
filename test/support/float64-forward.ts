import type { LlamaConfig } from '../../engine/index.ts';

/** Weights by their Hugging Face names, as float64. */
export type Float64Weights = ReadonlyMap<string, Float64Array>;

/**
 * The forward pass of one sequence in float64, straight from the formulas, for every architecture: no cache, no batch, no
 * shared code. Mirrors engine/forward.ts line for line. Returns the logits of every position, `(tokens, vocabulary)`.
 */
export function float64Forward(config: LlamaConfig, weights: Float64Weights, ids: readonly number[]): Float64Array[] {
  const { hiddenSize, numAttentionHeads, numKeyValueHeads, headDim, rmsNormEpsilon } = config;
  const weight = (name: string) => weights.get(`${name}.weight`)!;
  const table = weight('model.embed_tokens');

  const x = ids.map((id) => table.slice(id * hiddenSize, (id + 1) * hiddenSize)); // (tokens, hidden)

  for (let i = 0; i < config.numHiddenLayers; i++) {
    const layer = (name: string) => weight(`model.layers.${i}.${name}`);
    const linear = (name: string, row: Float64Array) =>
      plus(matmul(layer(name), row), weights.get(`model.layers.${i}.${name}.bias`));
    const normed = x.map((row) => rmsNorm(row, layer('input_layernorm'), rmsNormEpsilon));
    const query = normed.map((row) => linear('self_attn.q_proj', row)); // (tokens, heads * headDim)
    const key = normed.map((row) => linear('self_attn.k_proj', row)); // (tokens, keyValueHeads * headDim)
    const value = normed.map((row) => linear('self_attn.v_proj', row)); // (tokens, keyValueHeads * headDim)
    if (config.normalisesHeads) {
      for (const row of query) normHeads(row, layer('self_attn.q_norm'), rmsNormEpsilon);
      for (const row of key) normHeads(row, layer('self_attn.k_norm'), rmsNormEpsilon);
    }
    for (const [position, row] of query.entries()) rope(row, position, config);
    for (const [position, row] of key.entries()) rope(row, position, config);

    const window = config.slidingWindows?.[i] ?? Number.POSITIVE_INFINITY;
    const attended = query.map((q, position) => {
      const out = new Float64Array(numAttentionHeads * headDim);
      for (let h = 0; h < numAttentionHeads; h++) {
        const group = Math.floor(h / (numAttentionHeads / numKeyValueHeads)) * headDim;
        const own = q.subarray(h * headDim, (h + 1) * headDim);
        const oldest = Math.max(0, position + 1 - window);
        const past = Array.from({ length: position + 1 - oldest }, (_, n) => oldest + n);
        const scores = past.map((j) => dot(own, key[j]!.subarray(group, group + headDim)) / Math.sqrt(headDim));
        const shares = softmax(scores);
        for (const [n, j] of past.entries())
          for (let d = 0; d < headDim; d++) out[h * headDim + d]! += shares[n]! * value[j]![group + d]!;
      }
      return out; // (heads * headDim)
    });
    attended.forEach((row, t) => {
      addTo(x[t]!, linear('self_attn.o_proj', row));
    });

    x.forEach((row) => {
      const m = rmsNorm(row, layer('post_attention_layernorm'), rmsNormEpsilon);
      const gate = matmul(layer('mlp.gate_proj'), m); // (intermediate)
      const up = matmul(layer('mlp.up_proj'), m); // (intermediate)
      addTo(
        row,
        matmul(
          layer('mlp.down_proj'),
          gate.map((g, j) => (g / (1 + Math.exp(-g))) * up[j]!),
        ),
      );
    });
  }
  const head = config.tieWordEmbeddings ? table : weight('lm_head');
  return x.map((row) => matmul(head, rmsNorm(row, weight('model.norm'), rmsNormEpsilon))); // (tokens, vocabulary)
}

const dot = (a: Float64Array, b: Float64Array): number => a.reduce((sum, value, i) => sum + value * b[i]!, 0);

/** (d, n) @ (n) -> (d) */
function matmul(w: Float64Array, x: Float64Array): Float64Array {
  return Float64Array.from({ length: w.length / x.length }, (_, row) =>
    dot(w.subarray(row * x.length, (row + 1) * x.length), x),
  );
}

const plus = (x: Float64Array, bias: Float64Array | undefined): Float64Array =>
  bias ? x.map((value, i) => value + bias[i]!) : x;

function rmsNorm(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const scale = 1 / Math.sqrt(dot(x, x) / x.length + epsilon);
  return x.map((value, i) => value * scale * weight[i]!);
}

/** Normalises every head of one row in place. */
function normHeads(row: Float64Array, weight: Float64Array, epsilon: number): void {
  for (let start = 0; start < row.length; start += weight.length) {
    row.set(rmsNorm(row.subarray(start, start + weight.length), weight, epsilon), start);
  }
}

/** Rotates every head of one row in place: pairs are half a head apart. */
function rope(row: Float64Array, position: number, config: LlamaConfig): void {
  const { headDim } = config;
  for (let start = 0; start < row.length; start += headDim) {
    for (let i = 0; i < headDim / 2; i++) {
      const angle = (2 * Math.PI * position) / wavelengthOf(i, config);
      const [a, b] = [row[start + i]!, row[start + i + headDim / 2]!];
      row[start + i] = a * Math.cos(angle) - b * Math.sin(angle);
      row[start + i + headDim / 2] = b * Math.cos(angle) + a * Math.sin(angle);
    }
  }
}

/** In how many positions pair `i` turns once around. */
function wavelengthOf(i: number, { headDim, ropeTheta, ropeScaling: scaling }: LlamaConfig): number {
  const plain = 2 * Math.PI * ropeTheta ** ((2 * i) / headDim);
  if (!scaling) return plain;
  const long = plain * scaling.factor;
  if (scaling.type === 'linear') return long;
  const { lowFrequencyFactor: low, highFrequencyFactor: high, originalMaxPositionEmbeddings: context } = scaling;
  if (plain > context / low) return long;
  if (plain < context / high) return plain;
  const smooth = (context / plain - low) / (high - low);
  return 1 / ((1 - smooth) / long + smooth / plain);
}

function softmax(scores: readonly number[]): number[] {
  const largest = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - largest));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

function addTo(x: Float64Array, y: Float64Array): void {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!;
}
