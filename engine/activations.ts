import { bytesPerElement, product } from '../kernels/contract.ts';
import type { AdapterRoom } from './adapter-weights.ts';
import type { Backend, Tensor } from './backend.ts';
import { batchLimits } from './batch.ts';
import type { LlamaConfig } from './config.ts';

/** Activations of a number of rows, f32: views of buffers that every pass writes anew. */
export interface Rows {
  readonly count: number;
  /** The residual stream. */
  readonly x: Tensor; // (rows, hidden)
  readonly normed: Tensor; // (rows, hidden)
  readonly projections: Tensor; // (rows, (heads + 2 * keyValueHeads) * headDim)
  readonly queries: Tensor; // (rows, heads, headDim)
  readonly attended: Tensor; // (rows, heads, headDim)
  readonly gated: Tensor; // (rows, intermediate)
  /** What the gate takes, where an adapter changes it. */
  readonly ungated: Tensor | undefined; // (rows, intermediate, 2)
  /** Room for what is between the two matrices of an adapter, (rows, rank), where there are adapters. */
  readonly low: Tensor | undefined;
}

export type WantedRows = Rows & { readonly logits: Tensor }; // (rows, vocabulary)

type Buffer = 'x' | 'queries' | 'wantedX' | 'wantedQueries' | 'narrow' | 'wide' | 'logits';
/** Those that there are only where adapters are kept apart. */
type AdapterBuffer = 'ungated' | 'low';
type Shapes = Readonly<Record<Buffer, readonly number[]> & Partial<Record<AdapterBuffer, readonly number[]>>>;

const noAdapters: AdapterRoom = { rank: 0, gates: false };

/**
 * Buffers of the largest batch. What is never needed at the same time shares one: `narrow` is normed or attended, `wide`
 * projections or gated, of all rows or of the wanted ones.
 */
function shapes(config: LlamaConfig, maxTokens: number, { rank, gates }: AdapterRoom): Shapes {
  const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim, vocabularySize } = config;
  const { wanted } = batchLimits;
  const queries = numAttentionHeads * headDim;
  const rows = Math.max(maxTokens, wanted);
  return {
    x: [maxTokens, hiddenSize],
    queries: [maxTokens, queries],
    wantedX: [wanted, hiddenSize],
    wantedQueries: [wanted, queries],
    narrow: [rows, Math.max(hiddenSize, queries)],
    wide: [rows, Math.max(queries + 2 * numKeyValueHeads * headDim, intermediateSize)],
    logits: [wanted, vocabularySize],
    ...(gates ? { ungated: [rows, 2 * intermediateSize] } : {}),
    ...(rank > 0 ? { low: [rows, rank] } : {}),
  };
}

/** Bytes that `Activations` takes, in all and for its largest buffer. */
export function activationBytes(
  config: LlamaConfig,
  maxTokens: number,
  adapters = noAdapters,
): { readonly total: number; readonly largest: number } {
  const bytes = Object.values(shapes(config, maxTokens, adapters)).map((shape) => product(shape) * bytesPerElement.f32);
  return { total: bytes.reduce((sum, each) => sum + each, 0), largest: Math.max(...bytes) };
}

/** The working memory of a forward pass, planned once for the largest batch. */
export class Activations implements Disposable {
  readonly maxTokens: number;
  readonly #config: LlamaConfig;
  readonly #buffers: Readonly<Record<Buffer, Tensor> & Partial<Record<AdapterBuffer, Tensor>>>;

  constructor(backend: Backend, config: LlamaConfig, maxTokens: number, adapters = noAdapters) {
    this.maxTokens = maxTokens;
    this.#config = config;
    this.#buffers = Object.fromEntries(
      Object.entries(shapes(config, maxTokens, adapters)).map(([name, shape]) => [
        name,
        backend.allocate(name, 'f32', shape),
      ]),
    ) as Record<Buffer, Tensor>;
  }

  /** Room for the batch's tokens. */
  rows(count: number): Rows {
    return this.#view(count, this.#buffers.x, this.#buffers.queries);
  }

  /** Room for the rows whose logits are wanted. */
  wantedRows(count: number): WantedRows {
    const { wantedX, wantedQueries, logits } = this.#buffers;
    return { ...this.#view(count, wantedX, wantedQueries), logits: logits.view([count, this.#config.vocabularySize]) };
  }

  #view(count: number, x: Tensor, queries: Tensor): Rows {
    const { hiddenSize, intermediateSize, numAttentionHeads, numKeyValueHeads, headDim } = this.#config;
    const { narrow, wide, ungated, low } = this.#buffers;
    const heads = [count, numAttentionHeads, headDim];
    return {
      count,
      x: x.view([count, hiddenSize]),
      normed: narrow.view([count, hiddenSize]),
      projections: wide.view([count, (numAttentionHeads + 2 * numKeyValueHeads) * headDim]),
      queries: queries.view(heads),
      attended: narrow.view(heads),
      gated: wide.view([count, intermediateSize]),
      ungated: ungated?.view([count, intermediateSize, 2]),
      low,
    };
  }

  [Symbol.dispose](): void {
    for (const tensor of Object.values(this.#buffers)) tensor[Symbol.dispose]();
  }
}
