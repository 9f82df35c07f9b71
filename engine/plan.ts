import type { AdapterWeights } from './adapter-weights.ts';
import type { Backend, KernelChoices, Recording, Tensor, TuneOptions } from './backend.ts';
import type { Batch } from './batch.ts';
import { forward, type LlamaState, type Probe } from './forward.ts';

/** Shapes that stay recorded for each adapter; the one that was used longest ago gives way to a new one. */
const mostPlans = 64;

interface Plan {
  readonly recording: Recording;
  readonly logits: Tensor;
}

/**
 * Forward passes recorded by the shape of their batch and the adapter that they go through: kernels, bindings and sizes
 * are settled once, and a pass over another batch of that shape, in the same buffers, is a replay.
 */
export class ForwardPlans {
  readonly #backend: Backend;
  /** By the name of the adapter, without one too. */
  readonly #states: ReadonlyMap<string | undefined, LlamaState>;
  /** In the order of their last use. */
  readonly #plans = new Map<string, Plan>();

  constructor(backend: Backend, state: LlamaState, adapters: ReadonlyMap<string, AdapterWeights>) {
    this.#backend = backend;
    const adapted = Array.from(adapters, ([name, adapter]) => [name, { ...state, adapter }] as const);
    this.#states = new Map<string | undefined, LlamaState>([[undefined, state], ...adapted]);
  }

  get adapters(): readonly string[] {
    return [...this.#states.keys()].filter((name) => name !== undefined);
  }

  /**
   * Queues the pass and returns the logits of the wanted rows, padding included, `(wanted, vocabulary)`. A pass that is
   * looked into is queued anew.
   */
  run(batch: Batch, adapter?: string, probe?: Probe): Tensor {
    const state = this.#states.get(adapter)!;
    if (probe) return forward(this.#backend, state, batch, probe);
    const { ids, sequences, wanted, longest } = batch;
    const key = JSON.stringify([adapter, ids.shape[0], sequences.shape[0], wanted.shape[0], longest]);
    const plan = this.#plans.get(key) ?? this.#record(batch, state);
    this.#plans.delete(key);
    this.#plans.set(key, plan);
    this.#backend.replay(plan.recording);
    return plan.logits;
  }

  /** Measures which kernels serve such a batch best; later passes use them. Undefined where there is no choice. */
  async tune(batch: Batch, { onProgress, ...options }: TuneOptions): Promise<KernelChoices | undefined> {
    let choices: KernelChoices | undefined;
    for (const [i, state] of [...this.#states.values()].entries()) {
      choices = await this.#backend.tune?.(() => void forward(this.#backend, state, batch), {
        ...options,
        onProgress: ({ done, total, choice }) =>
          onProgress?.({ done: i + done / total, total: this.#states.size, choice }),
      });
    }
    for (const { recording } of this.#plans.values()) recording[Symbol.dispose]();
    this.#plans.clear();
    return choices;
  }

  /** Compiles the kernels that such batches need, all at once. */
  async prepare(batches: readonly Batch[]): Promise<void> {
    await this.#backend.prepare(() => {
      for (const state of this.#states.values()) for (const batch of batches) forward(this.#backend, state, batch);
    });
  }

  #record(batch: Batch, state: LlamaState): Plan {
    const [oldest] = this.#plans;
    if (oldest && this.#plans.size === mostPlans * this.#states.size) {
      oldest[1].recording[Symbol.dispose]();
      this.#plans.delete(oldest[0]);
    }
    let logits: Tensor | undefined;
    const recording = this.#backend.record(() => {
      logits = forward(this.#backend, state, batch);
    });
    return { recording, logits: logits! };
  }
}
