import { SessionError } from './errors.ts';
import type { Context } from './kv-cache.ts';
import type { Llama, SequenceInput } from './llama.ts';
import { PrefixTree } from './prefix-tree.ts';

export interface ReadPromptOptions {
  /** How many tokens at the prompt's end are asked about; 1 unless told. They go through the model every time. */
  readonly rows?: number | undefined;
  /** Slots to keep free for what is appended to forks of the prompt's context while the reading is open. */
  readonly headroom?: number | undefined;
  /** The name of the adapter that it goes through; none by default. */
  readonly adapter?: string | undefined;
  /** Makes a prompt that waits give up as soon as another one is done; what the device has begun is finished. */
  readonly signal?: AbortSignal | undefined;
}

/** A prompt that was read. It keeps its part of the cache until it is disposed, forks of its context before it. */
export interface PromptReading extends Disposable {
  /** The whole prompt. It may be extended as far as there is headroom. */
  readonly context: Context;
  /** What was asked for after each of the last tokens. */
  readonly rows: readonly Float32Array[];
  /** Tokens at its beginning that were there already. */
  readonly cached: number;
}

interface Request {
  readonly ids: readonly number[];
  readonly headroom: number;
  readonly rows: number;
  readonly adapter: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly compute: (input: SequenceInput) => Promise<Float32Array[][]>;
  readonly resolve: (reading: PromptReading) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Reads prompts, and of each computes only what no earlier one begins with.
 *
 * Prompts are kept, found by their ids and adapter, until somebody needs their slots. A prompt is begun once there is room for all
 * that is new in it and for its headroom, besides that of the prompts that are being read; those that must wait are
 * served in the order in which they came, so each that fits alone gets its turn. Prompts begun in one turn of the event
 * loop go through the model together, and what they share goes through once.
 */
export class PrefixCache implements Disposable {
  readonly #llama: Llama;
  readonly #tree: PrefixTree;
  readonly #shortage: Disposable;
  readonly #waiting: Request[] = [];
  /** Readings that are open. */
  #open = 0;
  /** Slots kept free for them. */
  #headroom = 0;
  #disposed = false;

  constructor(llama: Llama) {
    this.#llama = llama;
    this.#tree = new PrefixTree([undefined, ...llama.adapters].map((adapter) => llama.createContext(adapter)));
    this.#shortage = llama.onShortage((slots) => this.#tree.shrink(slots));
  }

  /**
   * Reads a prompt and returns the logits after its last token, or its last ones.
   * @throws SessionError `cache-full` where the prompt and its headroom exceed what the cache can free, and what
   * `Llama.logits` throws; `disposed`; the signal's reason
   */
  logits(ids: readonly number[], options: ReadPromptOptions = {}): Promise<PromptReading> {
    return this.#read(ids, options, (input) => this.#llama.logits([input]));
  }

  /** The same, but returns the log-probabilities of the tokens `picks` alone. */
  logProbabilities(
    ids: readonly number[],
    picks: readonly number[],
    options: ReadPromptOptions = {},
  ): Promise<PromptReading> {
    return this.#read(ids, options, (input) => this.#llama.logProbabilities([input], picks));
  }

  /** Drops all prompts; those that wait are refused, and so are all that come later. */
  [Symbol.dispose](): void {
    this.#disposed = true;
    for (const { reject } of this.#waiting.splice(0)) reject(disposed());
    this.#shortage[Symbol.dispose]();
    this.#tree[Symbol.dispose]();
  }

  async #read(
    ids: readonly number[],
    { headroom = 0, rows = 1, adapter, signal }: ReadPromptOptions,
    compute: Request['compute'],
  ): Promise<PromptReading> {
    if (this.#disposed) throw disposed();
    signal?.throwIfAborted();
    if (!(rows > 0 && rows <= ids.length)) {
      throw new SessionError('invalid-argument', `Of a prompt of ${ids.length} tokens ${rows} were asked about.`);
    }
    this.#llama.assertAdapter(adapter);
    return new Promise<PromptReading>((resolve, reject) => {
      this.#waiting.push({ ids, headroom, rows, adapter, signal, compute, resolve, reject });
      if (this.#waiting.length === 1) this.#serve();
    });
  }

  /** Begins as many as there is room for. */
  #serve(): void {
    const aborted = this.#waiting.filter(({ signal }) => signal?.aborted);
    for (const request of aborted) {
      this.#waiting.splice(this.#waiting.indexOf(request), 1);
      request.reject(request.signal!.reason);
    }
    while (this.#waiting.length > 0 && this.#begin(this.#waiting[0]!)) this.#waiting.shift();
  }

  /** Whether the request need not wait any longer: it was begun, or can never be. */
  #begin(request: Request): boolean {
    const { ids, headroom, rows: count, adapter, compute, resolve, reject } = request;
    const llama = this.#llama;
    // The last tokens always go through the model, since what comes after them is wanted.
    const { node, length } = this.#tree.find(ids, ids.length - count, adapter);
    const fresh = ids.length - length;
    const room = llama.freeCacheTokens + this.#tree.evictable - this.#tree.evictableOn(node) - this.#headroom;
    if (room < fresh + headroom) {
      if (this.#open > 0) return false;
      reject(cacheFull(ids.length, headroom, room + length));
      return true;
    }
    this.#tree.enter(node);
    this.#tree.reuse(node);
    const context = node.context.fork();
    const wanted = Array.from({ length: count }, (_, i) => fresh - count + i);
    const rows = compute({ context, ids: ids.slice(length), wanted });
    // Known from here on, so that the next prompt builds on it while it is computed; not where it was refused.
    const isNew = fresh > count && context.length === ids.length;
    const leaf = isNew ? this.#tree.insert(node, ids.slice(length, -count), context.fork(ids.length - count)) : node;
    this.#tree.enter(leaf);
    this.#tree.leave(node);
    this.#open++;
    this.#headroom += headroom;

    let isOpen = true;
    const close = () => {
      if (!isOpen) return;
      isOpen = false;
      context[Symbol.dispose]();
      this.#tree.leave(leaf);
      this.#open--;
      this.#headroom -= headroom;
      this.#serve();
    };
    rows.then(
      ([own]) => resolve({ context, rows: own!, cached: length, [Symbol.dispose]: close }),
      (error) => {
        close();
        reject(error);
      },
    );
    return true;
  }
}

const disposed = () => new SessionError('disposed', 'The cache of prompts was disposed.');

function cacheFull(tokens: number, headroom: number, room: number): SessionError {
  return new SessionError(
    'cache-full',
    `A prompt of ${tokens} tokens and ${headroom} more to follow need room in the key-value cache, but only ${room} can ` +
      'be freed. Dispose sessions that are no longer needed or load the model with a larger cache.',
  );
}
