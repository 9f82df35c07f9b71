import type { Backend, Tensor } from './backend.ts';
import type { LlamaConfig } from './config.ts';
import { SessionError } from './errors.ts';

/** Slots of the cache that lie side by side. */
interface Run {
  readonly firstSlot: number;
  readonly length: number;
}

/** Bytes of each of the cache's tensors, in f32: the keys, or the values, of one layer. */
export const cacheTensorBytes = (tokens: number, { numKeyValueHeads, headDim }: LlamaConfig): number =>
  tokens * numKeyValueHeads * headDim * 4;

/** Bytes that the keys and values of one token take, in f32. */
export const bytesPerToken = (config: LlamaConfig): number => 2 * config.numHiddenLayers * cacheTensorBytes(1, config);

/** Tokens whose keys and values fit in so many bytes. */
export const cacheTokensWithin = (bytes: number, config: LlamaConfig): number =>
  Math.floor(bytes / bytesPerToken(config));

/**
 * The keys (after RoPE) and values of every token that some context still needs: per layer one tensor of keys and
 * one of values, `(slots, keyValueHeads, headDim)`. A context is a list of runs of slots; contexts share slots, and a
 * slot is free once no context names it.
 */
export class KeyValueCache implements Disposable {
  readonly slots: number;
  readonly keys: readonly Tensor[];
  readonly values: readonly Tensor[];
  /** How many contexts name each slot. */
  readonly #users: Uint32Array;
  /** Runs of free slots by first slot, none next to another. */
  readonly #free: Run[];
  #freeSlots: number;
  /** Slots in use whose keys and values were never written, because the device failed. */
  readonly #lost = new Set<number>();

  constructor(backend: Backend, config: LlamaConfig, slots: number) {
    const { numHiddenLayers, numKeyValueHeads, headDim } = config;
    const perLayer = (name: string) =>
      Array.from({ length: numHiddenLayers }, (_, layer) =>
        backend.allocate(`${name} of layer ${layer}`, 'f32', [slots, numKeyValueHeads, headDim]),
      );
    this.slots = slots;
    this.keys = perLayer('keys');
    this.values = perLayer('values');
    this.#users = new Uint32Array(slots);
    this.#free = [{ firstSlot: 0, length: slots }];
    this.#freeSlots = slots;
  }

  get freeSlots(): number {
    return this.#freeSlots;
  }

  /**
   * Takes free slots for one user: one run where a free one is long enough, else several of the longest.
   * @throws SessionError `cache-full` where fewer than `count` are free
   */
  allocate(count: number): Run[] {
    if (count > this.#freeSlots) throw this.full(count);
    const taken: Run[] = [];
    for (let left = count; left > 0; left -= taken.at(-1)!.length) {
      const fitting = this.#free.findIndex(({ length }) => length >= left);
      const longest = this.#free.reduce((best, { length }, i) => (length > this.#free[best]!.length ? i : best), 0);
      const at = fitting === -1 ? longest : fitting;
      const { firstSlot, length: free } = this.#free[at]!;
      const length = Math.min(free, left);
      const rest = { firstSlot: firstSlot + length, length: free - length };
      this.#free.splice(at, 1, ...(rest.length > 0 ? [rest] : []));
      taken.push({ firstSlot, length });
    }
    this.#freeSlots -= count;
    for (const run of taken) this.retain(run);
    return taken;
  }

  /** The error of asking for more slots than are free. */
  full(count: number): SessionError {
    return new SessionError(
      'cache-full',
      `${count} tokens need room in the key-value cache, but of its ${this.slots} slots ${this.#freeSlots} are free. ` +
        'Dispose sessions that are no longer needed or load the model with a larger cache.',
    );
  }

  /** One user more for each slot. */
  retain({ firstSlot, length }: Run): void {
    for (let slot = firstSlot; slot < firstSlot + length; slot++) this.#users[slot]!++;
  }

  /** One user fewer for each slot; those without any become free. */
  release({ firstSlot, length }: Run): void {
    let idle = 0;
    for (let slot = firstSlot; slot < firstSlot + length; slot++) {
      if (--this.#users[slot]! === 0) idle++;
      else {
        this.#reclaim({ firstSlot: slot - idle, length: idle });
        idle = 0;
      }
    }
    this.#reclaim({ firstSlot: firstSlot + length - idle, length: idle });
  }

  /** Says of slots in use that their keys and values will never be written. */
  lose(slots: Iterable<number>): void {
    for (const slot of slots) if (this.#users[slot]! > 0) this.#lost.add(slot);
  }

  /** Whether keys and values of some of these slots were lost. */
  holdsLost(runs: readonly Run[]): boolean {
    if (this.#lost.size === 0) return false;
    return runs.some(({ firstSlot, length }) =>
      [...this.#lost].some((slot) => slot >= firstSlot && slot < firstSlot + length),
    );
  }

  [Symbol.dispose](): void {
    for (const tensor of [...this.keys, ...this.values]) tensor[Symbol.dispose]();
  }

  /** Puts slots back among the free ones, joined with their neighbours. */
  #reclaim({ firstSlot, length }: Run): void {
    if (length === 0) return;
    this.#freeSlots += length;
    const end = firstSlot + length;
    if (this.#lost.size > 0) for (let slot = firstSlot; slot < end; slot++) this.#lost.delete(slot);
    const after = this.#free.findIndex((run) => run.firstSlot > firstSlot);
    const at = after === -1 ? this.#free.length : after;
    const before = this.#free[at - 1];
    const next = this.#free[at];
    const joinsBefore = before !== undefined && before.firstSlot + before.length === firstSlot;
    const joinsNext = next?.firstSlot === end;
    const start = joinsBefore ? before.firstSlot : firstSlot;
    const stop = joinsNext ? end + next.length : end;
    this.#free.splice(at - Number(joinsBefore), Number(joinsBefore) + Number(joinsNext), {
      firstSlot: start,
      length: stop - start,
    });
  }
}

/** What a sequence has seen so far. Forks share everything up to where they part. */
export class Context implements Disposable {
  /** The name of the adapter that its keys and values are computed with. */
  readonly adapter: string | undefined;
  readonly #cache: KeyValueCache;
  /** The slots of its tokens, in the order of the text. */
  readonly #runs: Run[];
  /** Slots taken ahead for tokens to come. */
  readonly #reserve: Run[] = [];
  #holds = 0;
  #disposed = false;

  constructor(cache: KeyValueCache, runs: readonly Run[] = [], adapter?: string) {
    this.adapter = adapter;
    this.#cache = cache;
    this.#runs = [...runs];
    for (const run of runs) cache.retain(run);
  }

  /** Tokens in the context, those included that were handed to the device and are not computed yet. */
  get length(): number {
    return total(this.#runs);
  }

  /** Slots that it has taken ahead. */
  get reserved(): number {
    return total(this.#reserve);
  }

  /** (first slot, length) of each run, in the order of the text. */
  get spans(): readonly (readonly [firstSlot: number, length: number])[] {
    return this.#runs.map(({ firstSlot, length }) => [firstSlot, length] as const);
  }

  /** Whether the device failed before it had computed all of it: such a context is of no use any more. */
  get lost(): boolean {
    return this.#cache.holdsLost(this.#runs);
  }

  /** Another context with the same past, or its first `length` tokens. */
  fork(length = this.length): Context {
    this.#assertAlive();
    const runs: Run[] = [];
    let left = length;
    for (const { firstSlot, length: have } of this.#runs) {
      if (left <= 0) break;
      runs.push({ firstSlot, length: Math.min(have, left) });
      left -= have;
    }
    return new Context(this.#cache, runs, this.adapter);
  }

  /**
   * Takes slots for `tokens` more and returns them: those taken ahead first, then new ones with `headroom` further
   * ones.
   * @throws SessionError `cache-full`, `context-lost`, `disposed`; nothing has changed then
   */
  append(tokens: number, headroom = 0): Uint32Array {
    this.assertUsable();
    const missing = tokens - this.reserved;
    if (missing > 0) this.#reserve.push(...this.#cache.allocate(missing + headroom));
    const slots = new Uint32Array(tokens);
    for (let at = 0; at < tokens; ) {
      const { firstSlot, length: have } = this.#reserve[0]!;
      const length = Math.min(have, tokens - at);
      for (let i = 0; i < length; i++) slots[at + i] = firstSlot + i;
      const rest = { firstSlot: firstSlot + length, length: have - length };
      this.#reserve.splice(0, 1, ...(rest.length > 0 ? [rest] : []));
      this.#extend({ firstSlot, length });
      at += length;
    }
    return slots;
  }

  /** Keeps the slots taken until the hold is disposed, even where the context is disposed before. */
  hold(): Disposable {
    this.#assertAlive();
    this.#holds++;
    let held = true;
    return {
      [Symbol.dispose]: () => {
        if (!held) return;
        held = false;
        this.#holds--;
        this.#releaseIfUnused();
      },
    };
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#releaseIfUnused();
  }

  /** @throws SessionError `disposed`, `context-lost` */
  assertUsable(): void {
    this.#assertAlive();
    if (this.lost) throw contextLost();
  }

  #extend(run: Run): void {
    const last = this.#runs.at(-1);
    if (last && last.firstSlot + last.length === run.firstSlot) {
      this.#runs[this.#runs.length - 1] = { firstSlot: last.firstSlot, length: last.length + run.length };
    } else {
      this.#runs.push(run);
    }
  }

  #releaseIfUnused(): void {
    if (!this.#disposed || this.#holds > 0) return;
    for (const run of [...this.#runs, ...this.#reserve]) this.#cache.release(run);
    this.#runs.length = 0;
    this.#reserve.length = 0;
  }

  #assertAlive(): void {
    if (this.#disposed) throw new SessionError('disposed', 'This context was disposed.');
  }
}

/** The error of building on tokens that were never computed. */
export function contextLost(): SessionError {
  return new SessionError(
    'context-lost',
    'The device failed before it had computed this context; begin with a new one.',
  );
}

const total = (runs: readonly Run[]): number => runs.reduce((sum, { length }) => sum + length, 0);
