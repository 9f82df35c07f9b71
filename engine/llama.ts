import { ropeTables } from '../kernels/rope-and-cache/index.ts';
import { Activations } from './activations.ts';
import type { Adapter } from './adapter.ts';
import { type AdapterWeights, adapterRoom, loadAdapters } from './adapter-weights.ts';
import type { Backend, DeviceDescription, KernelChoices, MemoryUse, Tensor, TuneOptions } from './backend.ts';
import { BatchBuffers } from './batch.ts';
import type { LlamaConfig } from './config.ts';
import { ModelError, SessionError } from './errors.ts';
import type { LlamaState, Probe } from './forward.ts';
import { Context, KeyValueCache } from './kv-cache.ts';
import { assertFits, type Sizes, sizesOf } from './memory-needs.ts';
import { PickBuffers } from './picks.ts';
import { ForwardPlans } from './plan.ts';
import type { TensorSource } from './safetensors/source.ts';
import { type Pass, type PassResults, type PlacedSequence, Scheduler, type Wish } from './scheduler.ts';
import { type LlamaWeights, type LoadWeightsOptions, loadWeights, type WeightDType } from './weights.ts';

export interface LlamaOptions extends LoadWeightsOptions, Partial<Sizes> {
  /** How matrices are held on the device. */
  readonly dtype: WeightDType;
  /** Adapters to keep beside the weights, by the names that contexts ask for them by. */
  readonly adapters?: Readonly<Record<string, Adapter>>;
}

/** Some new tokens for a context, and which of them to report on. */
export interface SequenceInput {
  /** Its adapter is what they go through. */
  readonly context: Context;
  readonly ids: readonly number[];
  /** Indices into `ids`, ascending, whose next-token distributions are wanted. */
  readonly wanted: readonly number[];
  /** Slots to take ahead, where new ones are taken, for what will be generated. */
  readonly headroom?: number;
}

/**
 * A model on a device: its weights, the cache of keys and values, and working memory planned at load. Works on token
 * ids alone.
 *
 * Calls may overlap: what is asked for while the device is busy is packed into passes together. A call takes effect on
 * its contexts at once, in the order of calls: when it returns its promise, their slots are taken, they have their new
 * length, and a fork or another call may build on tokens that the device has yet to compute. A context may be disposed
 * meanwhile. A call that is refused changes nothing; one that the device fails leaves contexts that are `lost`.
 */
export class Llama implements AsyncDisposable {
  readonly config: LlamaConfig;
  readonly dtype: WeightDType;
  readonly contextLength: number;
  readonly #backend: Backend;
  readonly #state: LlamaState;
  readonly #batches: BatchBuffers;
  readonly #plans: ForwardPlans;
  readonly #picks: PickBuffers;
  readonly #passTokens: number;
  readonly #reclaimers = new Set<(slots: number) => void>();
  readonly #scheduler: Scheduler;

  private constructor(
    backend: Backend,
    state: LlamaState,
    adapters: ReadonlyMap<string, AdapterWeights>,
    dtype: WeightDType,
    sizes: Sizes,
  ) {
    this.config = state.config;
    this.dtype = dtype;
    this.contextLength = sizes.contextLength;
    this.#backend = backend;
    this.#state = state;
    this.#passTokens = sizes.passTokens;
    this.#batches = new BatchBuffers(backend, sizes.passTokens);
    this.#plans = new ForwardPlans(backend, state, adapters);
    this.#picks = new PickBuffers(backend);
    this.#scheduler = new Scheduler(state.cache, sizes.passTokens, (pass) => this.#run(pass));
  }

  /**
   * Loads a model and takes the backend over: it is disposed with the model, and also where loading fails.
   * @throws ModelError, DeviceError, or the signal's reason
   */
  static load(backend: Backend, config: LlamaConfig, source: TensorSource, options: LlamaOptions): Promise<Llama> {
    return Llama.fromWeights(
      backend,
      config,
      () => loadWeights(backend, config, source, options.dtype, options),
      options,
    );
  }

  /** The same with weights from elsewhere, made once it is known that the model fits. */
  static async fromWeights(
    backend: Backend,
    config: LlamaConfig,
    makeWeights: () => LlamaWeights | Promise<LlamaWeights>,
    options: LlamaOptions,
  ): Promise<Llama> {
    try {
      const sizes = sizesOf(config, options);
      assertFits(backend, config, options);
      const weights = await makeWeights();
      const { dtype, adapters: kept = {}, signal } = options;
      const adapters = await loadAdapters(backend, config, kept, dtype, signal);
      const tables = ropeTables(sizes.contextLength, config.headDim, config.ropeTheta, config.ropeScaling);
      const half = [sizes.contextLength, config.headDim / 2];
      const rotation = { cos: backend.allocate('cos', 'f32', half), sin: backend.allocate('sin', 'f32', half) };
      backend.write(rotation.cos, tables.cos);
      backend.write(rotation.sin, tables.sin);
      const cache = new KeyValueCache(backend, config, sizes.cacheTokens);
      const room = adapterRoom(config, Object.values(kept));
      const activations = new Activations(backend, config, sizes.passTokens, room);
      await backend.finish();
      const state = { config, weights, rotation, cache, activations };
      const llama = new Llama(backend, state, adapters, dtype, sizes);
      await llama.#prepare();
      return llama;
    } catch (error) {
      await backend[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The names of the adapters that are kept beside the weights. */
  get adapters(): readonly string[] {
    return this.#plans.adapters;
  }

  get device(): DeviceDescription {
    return this.#backend.description;
  }

  get memory(): MemoryUse {
    return this.#backend.memory;
  }

  /** Slots of the key-value cache. */
  get cacheTokens(): number {
    return this.#state.cache.slots;
  }

  /** Slots of the key-value cache that no context holds. */
  get freeCacheTokens(): number {
    return this.#state.cache.freeSlots;
  }

  /**
   * Has `reclaim` called with the number of slots that are missing before a call is refused for want of them, so that
   * whoever keeps contexts for later can give some up. Lasts until disposed.
   */
  onShortage(reclaim: (slots: number) => void): Disposable {
    this.#reclaimers.add(reclaim);
    return { [Symbol.dispose]: () => void this.#reclaimers.delete(reclaim) };
  }

  /**
   * An empty context; dispose it to give its part of the cache back.
   * @param adapter the name of the adapter that all of it, and of its forks, goes through; none by default
   * @throws SessionError `invalid-argument`
   */
  createContext(adapter?: string): Context {
    this.assertAdapter(adapter);
    return new Context(this.#state.cache, [], adapter);
  }

  /** @throws SessionError `invalid-argument` where there is no adapter of that name */
  assertAdapter(adapter: string | undefined): void {
    if (adapter === undefined || this.adapters.includes(adapter)) return;
    const known = this.adapters.length > 0 ? `are ${this.adapters.join(', ')}` : 'is none';
    throw new SessionError('invalid-argument', `There is no adapter '${adapter}' beside this model: there ${known}.`);
  }

  /** @throws SessionError `token-out-of-range` where the vocabulary has no such token */
  assertIds(ids: readonly number[]): void {
    const wrong = ids.find((id) => !(Number.isInteger(id) && id >= 0 && id < this.config.vocabularySize));
    if (wrong === undefined) return;
    throw new SessionError(
      'token-out-of-range',
      `Token ids must lie in [0, ${this.config.vocabularySize}), but ${wrong} came.`,
    );
  }

  /**
   * Extends contexts by new tokens and returns the logits of the wanted positions, a `Float32Array` of the vocabulary's
   * size each, sequence by sequence.
   * @throws SessionError `context-overflow`, `token-out-of-range`, `cache-full`, `context-lost`, `invalid-argument`,
   * `disposed`; DeviceError; ModelError `not-a-number`
   */
  async logits(inputs: readonly SequenceInput[], probe?: Probe): Promise<Float32Array[][]> {
    return this.#extend(inputs, { probe });
  }

  /**
   * The same, but returns log-probabilities of the tokens `picks` alone, under the softmax over the whole vocabulary:
   * a few numbers are read back instead of a vocabulary.
   */
  async logProbabilities(inputs: readonly SequenceInput[], picks: readonly number[]): Promise<Float32Array[][]> {
    this.assertIds(picks);
    if (picks.length === 0) throw new SessionError('invalid-argument', 'Log-probabilities of no token were asked for.');
    this.#picks.reserve(picks.length);
    return this.#extend(inputs, { picks });
  }

  /** Extends contexts without asking for anything back. */
  async prefill(inputs: readonly Omit<SequenceInput, 'wanted'>[]): Promise<void> {
    await this.logits(inputs.map((input) => ({ ...input, wanted: [] })));
  }

  /**
   * Measures which kernels serve this model's shapes best on this device, for passes over one token up to as many as go
   * through at once, and uses them from then on. Nothing else may be asked of the model meanwhile.
   * @returns what `WebGpuBackendOptions.choices` takes at the next load; undefined where there is no choice
   * @throws SessionError `cache-full` where the cache has no room for a pass; DeviceError, or the signal's reason
   */
  async tune({ onProgress, signal }: TuneOptions = {}): Promise<KernelChoices | undefined> {
    let choices: KernelChoices | undefined;
    const counts = tunedCounts(this.#passTokens);
    for (const [i, count] of counts.entries()) {
      using context = this.createContext();
      // As after a cached policy, as far as there is room.
      const past = Math.min(256, this.contextLength - count, this.freeCacheTokens - count);
      if (past > 0) context.append(past);
      const ids = new Array<number>(count).fill(0);
      const placed = place({ context, ids, wanted: [count - 1] });
      using _ = placed.hold;
      choices = await this.#plans.tune(this.#batches.pack([placed]), {
        ...(signal ? { signal } : {}),
        onProgress: ({ done, total, choice }) =>
          onProgress?.({ done: i + done / total, total: counts.length, choice: `${count} tokens: ${choice}` }),
      });
    }
    return choices;
  }

  /** Gives the device up as if it had been lost: for tests of what happens then. */
  loseDevice(): void {
    this.#backend.loseDevice?.();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#backend[Symbol.asyncDispose]();
  }

  /** Compiles the kernels of passes over one token, a few and many. */
  async #prepare(): Promise<void> {
    const counts = [...new Set([1, 16, 32, this.#passTokens].map((count) => Math.min(count, this.#passTokens)))];
    await this.#plans.prepare(
      counts.map((tokens) => this.#batches.shaped({ tokens, sequences: 1, wanted: 1, longest: tokens })),
    );
  }

  /** Settles what contexts the call needs before it changes the first. */
  #extend(inputs: readonly SequenceInput[], wish: Wish): Promise<Float32Array[][]> {
    const after = new Map<Context, { length: number; reserved: number }>();
    let slots = 0;
    for (const { context, ids, wanted, headroom = 0 } of inputs) {
      this.assertIds(ids);
      assertAscending(wanted, ids.length);
      context.assertUsable();
      const { length, reserved } = after.get(context) ?? context;
      if (length + ids.length > this.contextLength) {
        throw new SessionError(
          'context-overflow',
          `${length} tokens and ${ids.length} more exceed the context of ${this.contextLength}.`,
        );
      }
      const missing = ids.length - reserved;
      slots += missing > 0 ? missing + headroom : 0;
      after.set(context, { length: length + ids.length, reserved: missing > 0 ? headroom : -missing });
    }
    for (const reclaim of this.#reclaimers) {
      if (slots > this.freeCacheTokens) reclaim(slots - this.freeCacheTokens);
    }
    if (slots > this.freeCacheTokens) throw this.#state.cache.full(slots);
    return this.#scheduler.submit(inputs.map(place), wish);
  }

  /** Queues a pass and its reads on the device. */
  #run({ parts, adapter, probe }: Pass): PassResults {
    const picks = parts.flatMap((part) => part.wanted.map(() => part.picks ?? []));
    const whole = parts.reduce((sum, part) => sum + (part.picks ? 0 : part.wanted.length), 0);
    const batch = this.#batches.pack(parts);
    // Before the pass: a write between two operations would divide its submit.
    const pick = whole < picks.length ? this.#picks.prepare(picks) : undefined;
    const padded = this.#plans.run(batch, adapter, probe);
    const { vocabularySize } = this.config;
    const picked = pick?.(padded.view([picks.length, vocabularySize]));
    const inFull = whole > 0 ? this.#readRows(padded.view([whole, vocabularySize])) : undefined;
    const done = inFull ?? picked ?? this.#backend.finish();
    let end = 0;
    return parts.map(async ({ wanted, picks: own }) => {
      const [from, to] = [end, end + wanted.length];
      end = to;
      if (wanted.length > 0) return assertNumbers((await (own ? picked! : inFull!)).slice(from, to));
      await done;
      return [];
    });
  }

  /** The rows of a matrix. */
  async #readRows(matrix: Tensor): Promise<Float32Array[]> {
    const [rows, width] = matrix.shape as [number, number];
    const numbers = (await this.#backend.read(matrix)) as Float32Array;
    return Array.from({ length: rows }, (_, row) => numbers.subarray(row * width, (row + 1) * width));
  }
}

/** Numbers of tokens that stand for a class of shapes each, up to whole passes; see shape-class.ts. */
const tunedCounts = (passTokens: number): number[] =>
  [1, 8, 16, 32, 64, 128, 256, 512, 1024].filter((count) => count <= passTokens);

/** Takes the slots of new tokens. */
function place({ context, ids, wanted, headroom }: SequenceInput): PlacedSequence {
  const firstPosition = context.length;
  const slots = context.append(ids.length, headroom);
  const { adapter, spans } = context;
  return { ids: [...ids], firstPosition, slots, spans, wanted: [...wanted], adapter, hold: context.hold() };
}

/** Of no numbers no comparison holds: what is unsafe would pass. */
function assertNumbers(rows: Float32Array[]): Float32Array[] {
  if (rows.every((row) => row.every(Number.isFinite))) return rows;
  throw new ModelError(
    'not-a-number',
    "The model's logits are no numbers: among its weights must be some that are none, so its files are damaged.",
  );
}

function assertAscending(wanted: readonly number[], length: number): void {
  if (wanted.every((index, i) => Number.isInteger(index) && index > (wanted[i - 1] ?? -1) && index < length)) return;
  throw new SessionError(
    'invalid-argument',
    `The wanted rows must be ascending indices of ${length} tokens, but are [${wanted.join(', ')}].`,
  );
}
