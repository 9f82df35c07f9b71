import type { LlamaConfig } from './config.ts';
import { SessionError } from './errors.ts';
import type { Context } from './kv-cache.ts';
import type { Llama } from './llama.ts';
import { createSampler, type SamplingOptions } from './sampling.ts';

export interface GenerateOptions extends SamplingOptions {
  readonly maxTokens: number;
  /** Token ids that end the text, not part of the result; by default the model's own. */
  readonly stopIds?: LlamaConfig['eosTokenIds'];
  /** Checked before each token; the session keeps what it has. */
  readonly signal?: AbortSignal;
}

/** One sequence in the making. `dispose` gives its part of the cache back. */
export class Session implements Disposable {
  readonly #llama: Llama;
  readonly #context: Context;
  /** Next-token logits after the last token, once asked for. */
  #last: Float32Array | undefined;

  /** @param last next-token logits after the context's last token, where it is not empty */
  constructor(llama: Llama, context: Context = llama.createContext(), last?: Float32Array) {
    this.#llama = llama;
    this.#context = context;
    this.#last = last;
  }

  /** Tokens so far. */
  get length(): number {
    return this.#context.length;
  }

  /** Reads tokens and returns the logits after the last, `(vocabulary)`. */
  async prefill(ids: readonly number[], headroom = 0): Promise<Float32Array> {
    if (ids.length === 0) throw new SessionError('invalid-argument', 'prefill needs one token or more.');
    const [rows] = await this.#llama.logits([{ context: this.#context, ids, wanted: [ids.length - 1], headroom }]);
    this.#last = rows![0]!;
    return this.#last;
  }

  /**
   * The log-probabilities of `ids` as the continuation, one number a token, each given the ones before it. The session
   * itself does not move.
   * @throws what `Llama.logits` throws; SessionError `invalid-argument` where the session is empty
   */
  async logProbabilities(ids: readonly number[]): Promise<Float32Array> {
    // The last one too, which does not go through the model.
    this.#llama.assertIds(ids);
    const last = this.#requireLogits();
    using branch = this.#context.fork();
    const rows: Float32Array[] = [last];
    if (ids.length > 1) {
      const wanted = ids.slice(1).map((_, i) => i);
      const [after] = await this.#llama.logits([{ context: branch, ids: ids.slice(0, -1), wanted }]);
      rows.push(...after!);
    }
    return Float32Array.from(ids, (id, i) => rows[i]![id]! - logSumExp(rows[i]!));
  }

  /** Generates until a stop token, `maxTokens` or the end of the context. */
  async generate(options: GenerateOptions): Promise<number[]> {
    const { maxTokens, stopIds = this.#llama.config.eosTokenIds, signal } = options;
    const sample = createSampler(options);
    const ids: number[] = [];
    while (ids.length < maxTokens && this.length < this.#llama.contextLength) {
      signal?.throwIfAborted();
      const id = sample(this.#requireLogits());
      if (stopIds.includes(id)) break;
      ids.push(id);
      const left = Math.min(maxTokens - ids.length, this.#llama.contextLength - this.length - 1);
      await this.prefill([id], left);
    }
    return ids;
  }

  /** Another session with the same past; the two go on apart. */
  fork(): Session {
    return new Session(this.#llama, this.#context.fork(), this.#last);
  }

  [Symbol.dispose](): void {
    this.#context[Symbol.dispose]();
  }

  #requireLogits(): Float32Array {
    if (this.#last) return this.#last;
    throw new SessionError('invalid-argument', 'The session is empty: prefill a prompt first.');
  }
}

/** log(sum(exp(x))) with the largest taken out, in float64. */
function logSumExp(x: Float32Array): number {
  const largest = x.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return largest + Math.log(x.reduce((sum, value) => sum + Math.exp(value - largest), 0));
}
