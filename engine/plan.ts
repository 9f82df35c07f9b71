import type { Backend, KernelChoices, Recording, Tensor, TuneOptions } from './backend.ts';
import type { Batch } from './batch.ts';
import { forward, type LlamaState } from './forward.ts';

/** Shapes that stay recorded; the one that was used longest ago gives way to a new one. */
const mostPlans = 64;

interface Plan {
  readonly recording: Recording;
  readonly logits: Tensor;
}

/**
 * Forward passes recorded by the shape of their batch: kernels, bindings and sizes are settled once, and a pass over
 * another batch of that shape, in the same buffers, is a replay.
 */
export class ForwardPlans {
  readonly #backend: Backend;
  readonly #state: LlamaState;
  /** In the order of their last use. */
  readonly #plans = new Map<string, Plan>();

  constructor(backend: Backend, state: LlamaState) {
    this.#backend = backend;
    this.#state = state;
  }

  /** Queues the pass and returns the logits of the wanted rows, padding included, `(wanted, vocabulary)`. */
  run(batch: Batch): Tensor {
    const { ids, sequences, wanted, longest } = batch;
    const key = [ids.shape[0], sequences.shape[0], wanted.shape[0], longest].join();
    const plan = this.#plans.get(key) ?? this.#record(batch);
    this.#plans.delete(key);
    this.#plans.set(key, plan);
    this.#backend.replay(plan.recording);
    return plan.logits;
  }

  /** Measures which kernels serve such a batch best; later passes use them. Undefined where there is no choice. */
  async tune(batch: Batch, options: TuneOptions): Promise<KernelChoices | undefined> {
    const choices = await this.#backend.tune?.(() => {
      forward(this.#backend, this.#state, batch);
    }, options);
    for (const { recording } of this.#plans.values()) recording[Symbol.dispose]();
    this.#plans.clear();
    return choices;
  }

  /** Compiles the kernels that such batches need, all at once. */
  async prepare(batches: readonly Batch[]): Promise<void> {
    await this.#backend.prepare(() => {
      for (const batch of batches) forward(this.#backend, this.#state, batch);
    });
  }

  #record(batch: Batch): Plan {
    const [oldest] = this.#plans;
    if (oldest && this.#plans.size === mostPlans) {
      oldest[1].recording[Symbol.dispose]();
      this.#plans.delete(oldest[0]);
    }
    let logits: Tensor | undefined;
    const recording = this.#backend.record(() => {
      logits = forward(this.#backend, this.#state, batch);
    });
    return { recording, logits: logits! };
  }
}
