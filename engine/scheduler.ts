import { batchLimits, type SequencePart } from './batch.ts';
import { SessionError } from './errors.ts';
import type { Probe } from './forward.ts';
import { contextLost, type KeyValueCache } from './kv-cache.ts';

/** New tokens of a context whose slots are taken; `wanted` ascends. */
export interface PlacedSequence extends SequencePart {
  /** The name of the adapter that they go through. */
  readonly adapter: string | undefined;
  /** Keeps the slots until the tokens are computed, or never will be. */
  readonly hold: Disposable;
}

/** What is wanted of a request's rows: log-probabilities of the tokens `picks`, else the logits. */
export interface Wish {
  readonly picks?: readonly number[] | undefined;
  /** Looks inside the passes of this request, which nothing else then shares. */
  readonly probe?: Probe | undefined;
}

/** Tokens that go through the model, and one adapter, at once. Parts that want logits come before those that want log-probabilities. */
export interface Pass {
  readonly parts: readonly (SequencePart & Pick<Wish, 'picks'>)[];
  readonly adapter: string | undefined;
  readonly probe?: Probe | undefined;
}

/** The wanted rows of a pass, a promise for each part; resolves to none where the part wants none. */
export type PassResults = readonly Promise<readonly Float32Array[]>[];

interface Request extends Wish {
  /** Sequences of which some tokens still wait. */
  waiting: number;
  /** Parts that are on the device. */
  underWay: number;
  readonly rows: readonly Float32Array[][];
  readonly resolve: (rows: Float32Array[][]) => void;
  readonly reject: (error: unknown) => void;
  /** Why it will be rejected, once none of its parts is on the device. */
  failure: { readonly error: unknown } | undefined;
}

interface WaitingSequence {
  readonly request: Request;
  readonly index: number;
  readonly sequence: PlacedSequence;
  /** Tokens that went into passes already. */
  done: number;
  /** Parts that are on the device. */
  underWay: number;
}

interface Part extends SequencePart {
  readonly waiting: WaitingSequence;
  readonly picks: Wish['picks'];
  /** Which of the sequence's wanted rows is its first. */
  readonly firstWanted: number;
}

/**
 * Packs whatever is asked of the device, by whomever, into passes.
 *
 * Requests wait in the order in which they came while a pass is under way; what waits then goes into the next ones
 * together, split where it exceeds a pass. A second pass is started while one is under way only if it is full, since it
 * could not become a better one by waiting: so the device does not idle between passes, and requests still gather.
 *
 * A pass goes through one adapter, or none: that of who has waited longest. What goes through others is passed over, which
 * no order forbids, since tokens only build on those that went through the same.
 *
 * A pass that fails rejects the requests in it and those that build on their tokens; others go on.
 */
export class Scheduler {
  readonly #cache: KeyValueCache;
  readonly #passTokens: number;
  readonly #run: (pass: Pass) => PassResults;
  /** In the order of the requests, which is the order in which tokens may build on each other. */
  readonly #queue: WaitingSequence[] = [];
  #underWay = 0;
  #pumping = false;

  /** @param run queues a pass on the device before it returns; throws where it cannot */
  constructor(cache: KeyValueCache, passTokens: number, run: (pass: Pass) => PassResults) {
    this.#cache = cache;
    this.#passTokens = passTokens;
    this.#run = run;
  }

  /** Resolves to the wanted rows, sequence by sequence, once all of the tokens went through the model. */
  submit(sequences: readonly PlacedSequence[], wish: Wish): Promise<Float32Array[][]> {
    return new Promise((resolve, reject) => {
      const rows: Float32Array[][] = sequences.map(() => []);
      const request = { ...wish, waiting: 0, underWay: 0, rows, resolve, reject, failure: undefined };
      for (const [index, sequence] of sequences.entries()) {
        if (sequence.ids.length === 0) {
          sequence.hold[Symbol.dispose]();
          continue;
        }
        request.waiting++;
        this.#queue.push({ request, index, sequence, done: 0, underWay: 0 });
      }
      if (request.waiting === 0) resolve(rows);
      this.#pumpSoon();
    });
  }

  /** Lets callers that are about to ask in the same turn of the event loop ask first. */
  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    queueMicrotask(() => {
      this.#pumping = false;
      while (this.#queue.length > 0 && (this.#underWay === 0 || (this.#underWay === 1 && this.#fillsPass()))) {
        this.#start(this.#take());
      }
    });
  }

  #fillsPass(): boolean {
    const { adapter } = this.#queue[0]!.sequence;
    const together = this.#queue.filter(({ sequence }) => sequence.adapter === adapter);
    let tokens = 0;
    let wanted = 0;
    for (const [count, { sequence, done }] of together.entries()) {
      tokens += sequence.ids.length - done;
      wanted += sequence.wanted.length;
      if (tokens >= this.#passTokens || wanted >= batchLimits.wanted || count + 1 >= batchLimits.sequences) return true;
    }
    return false;
  }

  /** The next pass: the head of the queue and what can go with it, as much as keeps every limit. */
  #take(): Part[] {
    const parts: Part[] = [];
    let tokens = 0;
    let wanted = 0;
    let spans = 0;
    for (let at = 0; at < this.#queue.length; ) {
      const waiting = this.#queue[at]!;
      const { request, sequence, done } = waiting;
      if (this.#cache.holdsLost(before(sequence))) {
        this.#fail(request, contextLost());
        at = 0;
        continue;
      }
      if (parts.length > 0 && sequence.adapter !== parts[0]!.waiting.sequence.adapter) {
        at++;
        continue;
      }
      const head = parts[0]?.waiting.request;
      if (head && head !== request && (head.probe || request.probe)) break;
      const asked = sequence.wanted.filter((index) => index >= done);
      const roomForRows = asked[batchLimits.wanted - wanted] ?? sequence.ids.length;
      const end = Math.min(sequence.ids.length, done + this.#passTokens - tokens, roomForRows);
      const full = end <= done || parts.length === batchLimits.sequences;
      if (full || spans + sequence.spans.length > batchLimits.spans) {
        if (parts.length > 0) break;
        this.#fail(request, tooScattered(sequence.spans.length));
        at = 0;
        continue;
      }
      parts.push({
        waiting,
        picks: request.picks,
        ids: sequence.ids.slice(done, end),
        firstPosition: sequence.firstPosition + done,
        slots: sequence.slots.subarray(done, end),
        spans: sequence.spans,
        wanted: asked.filter((index) => index < end).map((index) => index - done),
        firstWanted: sequence.wanted.length - asked.length,
      });
      tokens += end - done;
      wanted += parts.at(-1)!.wanted.length;
      spans += sequence.spans.length;
      waiting.done = end;
      waiting.underWay++;
      request.underWay++;
      if (end === sequence.ids.length) {
        this.#queue.splice(at, 1);
        request.waiting--;
      }
    }
    return parts.sort((a, b) => Number(a.picks !== undefined) - Number(b.picks !== undefined));
  }

  #start(parts: readonly Part[]): void {
    if (parts.length === 0) return;
    const { request, sequence } = parts[0]!.waiting;
    let results: PassResults;
    try {
      results = this.#run({ parts, adapter: sequence.adapter, probe: request.probe });
    } catch (error) {
      for (const part of parts) this.#failPart(part, error);
      return;
    }
    this.#underWay++;
    const settled = parts.map((part, i) =>
      results[i]!.then(
        (rows) => this.#finishPart(part, rows),
        (error) => this.#failPart(part, error),
      ),
    );
    void Promise.all(settled).then(() => {
      this.#underWay--;
      this.#pumpSoon();
    });
  }

  #finishPart(part: Part, rows: readonly Float32Array[]): void {
    const { waiting, firstWanted } = part;
    const { request, index, sequence } = waiting;
    // It may have been handed to the device before a pass failed that it builds on.
    if (this.#cache.holdsLost(before(sequence))) {
      this.#failPart(part, contextLost());
      return;
    }
    rows.forEach((row, n) => {
      request.rows[index]![firstWanted + n] = row;
    });
    this.#leaveDevice(waiting);
  }

  #failPart({ waiting, slots }: Part, error: unknown): void {
    this.#cache.lose(slots);
    this.#fail(waiting.request, error);
    this.#leaveDevice(waiting);
  }

  #leaveDevice(waiting: WaitingSequence): void {
    waiting.underWay--;
    waiting.request.underWay--;
    this.#releaseIfOver(waiting);
    this.#settleIfOver(waiting.request);
  }

  /** Only then: whoever held slots next would have those called lost that are his. */
  #releaseIfOver({ request, sequence, done, underWay }: WaitingSequence): void {
    if (underWay === 0 && (request.failure || done === sequence.ids.length)) sequence.hold[Symbol.dispose]();
  }

  /** Whoever asked has the slots to give back by then. */
  #settleIfOver({ waiting, underWay, failure, rows, resolve, reject }: Request): void {
    if (underWay > 0) return;
    if (failure) reject(failure.error);
    else if (waiting === 0) resolve([...rows]);
  }

  /** Has a request rejected and drops what of it still waits. */
  #fail(request: Request, error: unknown): void {
    if (request.failure) return;
    request.failure = { error };
    for (let i = this.#queue.length - 1; i >= 0; i--) {
      const waiting = this.#queue[i]!;
      if (waiting.request !== request) continue;
      this.#queue.splice(i, 1);
      this.#cache.lose(waiting.sequence.slots.subarray(waiting.done));
      this.#releaseIfOver(waiting);
    }
    this.#settleIfOver(request);
  }
}

/** The runs of the tokens that come before a sequence's new ones. */
function before({ spans, firstPosition }: PlacedSequence): { firstSlot: number; length: number }[] {
  let left = firstPosition;
  return spans.map(([firstSlot, length]) => {
    const inside = Math.min(length, left);
    left -= inside;
    return { firstSlot, length: inside };
  });
}

function tooScattered(spans: number): SessionError {
  return new SessionError(
    'cache-full',
    `A context lies in ${spans} pieces of the key-value cache, but a pass takes ${batchLimits.spans}. Dispose sessions ` +
      'that are no longer needed or load the model with a larger cache.',
  );
}
