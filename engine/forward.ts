import { addBias } from '../kernels/add-bias/index.ts';
import { attention, everything } from '../kernels/attention/index.ts';
import { embedding } from '../kernels/embedding/index.ts';
import { gate } from '../kernels/gate/index.ts';
import { gatedMatmul } from '../kernels/gated-matmul/index.ts';
import { gatherRows } from '../kernels/gather-rows/index.ts';
import { matmul } from '../kernels/matmul/index.ts';
import { matmulAdd } from '../kernels/matmul-add/index.ts';
import { normHeads } from '../kernels/norm-heads/index.ts';
import { rmsNorm } from '../kernels/rms-norm/index.ts';
import { ropeAndCache } from '../kernels/rope-and-cache/index.ts';
import type { Activations, Rows } from './activations.ts';
import type { AdapterWeights, LowRank } from './adapter-weights.ts';
import type { Backend, Tensor } from './backend.ts';
import type { Batch } from './batch.ts';
import type { LlamaConfig } from './config.ts';
import type { KeyValueCache } from './kv-cache.ts';
import type { LlamaWeights } from './weights.ts';

/** What a forward pass reads and writes. */
export interface LlamaState {
  readonly config: LlamaConfig;
  readonly weights: LlamaWeights;
  readonly rotation: { readonly cos: Tensor; readonly sin: Tensor }; // (contextLength, headDim / 2)
  readonly cache: KeyValueCache;
  readonly activations: Activations;
  /** The adapter that all of a pass goes through, where it is kept apart from the weights. */
  readonly adapter?: AdapterWeights;
}

/**
 * Looks inside a forward pass: the residual stream after the embedding and after each layer, `(tokens, hidden)`, for the
 * wanted rows alone after the last layer, and the last norm. `read` queues a copy and must be called at once.
 */
export type Probe = (
  point: 'embedding' | `layer ${number}` | 'norm',
  x: Tensor,
  read: () => Promise<Float32Array>,
) => void;

/**
 * The Llama forward pass (Touvron et al., arXiv 2302.13971) over a packed batch: for prefill, decode and scoring alike.
 * Queues everything on the backend and returns the logits of the wanted rows, `(wanted, vocabulary)`.
 *
 * What sets other architectures of the family apart (architectures.ts) are tensors that a layer has or has not, and windows.
 *
 * An adapter that is kept apart adds B (A x) to W x (LoRA, arXiv 2106.09685) for the matrices that it changes.
 *
 * Keys and values of all tokens go into the cache; what only the wanted rows need is computed for them alone.
 */
export function forward(backend: Backend, state: LlamaState, batch: Batch, look?: Probe): Tensor {
  const { config, weights, rotation, cache } = state;
  const { positions, slots, spans } = batch;
  const epsilon = config.rmsNormEpsilon;
  const heads = { heads: config.numAttentionHeads, keyValueHeads: config.numKeyValueHeads };
  const probe = (point: Parameters<Probe>[0], padded: Tensor, count: number) => {
    const x = look && padded.view([count, config.hiddenSize]);
    if (x) look(point, x, () => backend.read(x) as Promise<Float32Array>);
  };
  const adapt = (matrix: LowRank | undefined, x: Tensor, out: Tensor, { count, low }: Rows) => {
    if (!matrix) return;
    const between = low!.view([count, matrix.a.shape[0]!]); // (rows, rank)
    backend.run(matmul, { x, weight: matrix.a, out: between });
    backend.run(matmulAdd, { x: between, weight: matrix.b, out });
  };
  const all = state.activations.rows(batch.ids.shape[0]!);
  const wanted = state.activations.wantedRows(batch.wanted.shape[0]!);

  backend.run(embedding, { table: weights.embedding, ids: batch.ids, out: all.x }); // (tokens, hidden)
  probe('embedding', all.x, batch.count.tokens);

  for (const [i, layer] of weights.layers.entries()) {
    const keys = cache.keys[i]!; // (slots, keyValueHeads, headDim)
    const values = cache.values[i]!; // (slots, keyValueHeads, headDim)
    const { queryKeyValueBias, queryNorm, keyNorm, attentionOutputBias } = layer; // each may be absent
    const adapter = state.adapter?.[i] ?? {};
    const { projections, queries } = all; // (tokens, (heads + 2 keyValueHeads) headDim), (tokens, heads, headDim)

    backend.run(rmsNorm, { x: all.x, weight: layer.attentionNorm, out: all.normed }, { epsilon }); // (tokens, hidden)
    backend.run(matmul, { x: all.normed, weight: layer.queryKeyValue, out: projections });
    adapt(adapter.queryKeyValue, all.normed, projections, all);
    if (queryKeyValueBias) backend.run(addBias, { bias: queryKeyValueBias, out: projections });
    if (queryNorm && keyNorm) backend.run(normHeads, { queryNorm, keyNorm, projections }, { ...heads, epsilon });
    backend.run(ropeAndCache, { projections, positions, slots, ...rotation, queries, keys, values });

    const last = i === weights.layers.length - 1;
    const rows = last ? wanted : all;
    if (last && rows.count === 0) break;
    if (last) {
      backend.run(gatherRows, { x: all.queries, rows: batch.wanted, out: rows.queries }); // (wanted, heads, headDim)
      backend.run(gatherRows, { x: all.x, rows: batch.wanted, out: rows.x }); // (wanted, hidden)
    }
    const sequences = last ? batch.wantedSequences : batch.sequences;
    const reach = { longest: last ? 1 : batch.longest, window: config.slidingWindows?.[i] ?? everything };
    backend.run(attention, { queries: rows.queries, keys, values, sequences, spans, out: rows.attended }, reach); // (rows, heads, headDim)
    backend.run(matmulAdd, { x: rows.attended, weight: layer.attentionOutput, out: rows.x }); // (rows, hidden)
    adapt(adapter.attentionOutput, rows.attended, rows.x, rows);
    if (attentionOutputBias) backend.run(addBias, { bias: attentionOutputBias, out: rows.x });

    backend.run(rmsNorm, { x: rows.x, weight: layer.mlpNorm, out: rows.normed }, { epsilon }); // (rows, hidden)
    if (adapter.gateUp) {
      const ungated = rows.ungated!; // (rows, intermediate, 2)
      backend.run(matmul, { x: rows.normed, weight: layer.gateUp, out: ungated });
      adapt(adapter.gateUp, rows.normed, ungated, rows);
      backend.run(gate, { x: ungated, out: rows.gated }); // (rows, intermediate)
    } else backend.run(gatedMatmul, { x: rows.normed, weight: layer.gateUp, out: rows.gated }); // (rows, intermediate)
    backend.run(matmulAdd, { x: rows.gated, weight: layer.down, out: rows.x }); // (rows, hidden)
    adapt(adapter.down, rows.gated, rows.x, rows);
    probe(`layer ${i}`, rows.x, last ? batch.count.wanted : batch.count.tokens);
  }

  if (wanted.count === 0) return wanted.logits;
  backend.run(rmsNorm, { x: wanted.x, weight: weights.finalNorm, out: wanted.normed }, { epsilon }); // (wanted, hidden)
  probe('norm', wanted.normed, batch.count.wanted);
  backend.run(matmul, { x: wanted.normed, weight: weights.head, out: wanted.logits }); // (wanted, vocabulary)
  return wanted.logits;
}
