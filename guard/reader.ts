import { type Llama, PrefixCache, Session } from '../engine/index.ts';
import { type Tokenizer, TokenizerError } from '../tokenizer/index.ts';
import type { HarmlessTurn } from './hostile/index.ts';
import { jointProbabilities, writtenTokens } from './joint.ts';
import type { Role } from './messages.ts';
import type { CategoryMode } from './options.ts';
import { type Policy, selectCategories } from './policy.ts';
import { type Prompt, promptsWithin } from './prompts.ts';
import type { Reading } from './reading.ts';
import { type Excerpt, type Score, scoreOf } from './score.ts';
import { settled } from './settled.ts';
import { parseVerdict, type Verdict } from './verdict.ts';
import type { Piece } from './windows.ts';

/** What is to be read. */
export interface Task {
  readonly policy: Policy;
  readonly role: Role;
  /** The conversation in each of its spellings: as it was written, and with disguised words normalised. */
  readonly spellings: readonly (readonly HarmlessTurn[])[];
  readonly signal: AbortSignal | undefined;
}

/** A prompt that was read and scored. */
interface Window extends Score, Prompt {
  /** Which of the conversation's spellings it shows. */
  readonly spelling: number;
  readonly cached: number;
  /** By code, the probability that the written list names it; where it was asked for. */
  readonly named: ReadonlyMap<string, number> | undefined;
}

/** The windows of a conversation's last reading by their ids: of one that has grown since, most are the same. */
export type KnownWindows = Map<string, Window>;

/** Tokens kept free behind a prompt for the written verdict; more where the policy's longest list takes more. */
const verdictTokens = 64;

/** Puts conversations to the model and reads its answers off the logits. */
export class Reader implements Disposable {
  readonly #llama: Llama;
  readonly #tokenizer: Tokenizer;
  readonly #prefixes: PrefixCache;
  readonly #safe: number;
  readonly #unsafe: number;

  /** @throws TokenizerError `tokenizer-mismatch` where the tokenizer has no single tokens for the verdicts */
  constructor(llama: Llama, tokenizer: Tokenizer) {
    this.#llama = llama;
    this.#tokenizer = tokenizer;
    this.#prefixes = new PrefixCache(llama);
    this.#safe = verdictToken(tokenizer, '▁safe');
    this.#unsafe = verdictToken(tokenizer, '▁unsafe');
  }

  /**
   * Reads a conversation under a policy. Of several windows, and of two spellings, the worst decides.
   * @param known windows that need not be read again; afterwards those of this reading
   * @throws PolicyError `policy-too-long`, SessionError, DeviceError, or the signal's reason
   */
  async read(task: Task, mode: CategoryMode, known?: KnownWindows): Promise<Reading> {
    const prompts = task.spellings.flatMap((turns, spelling) =>
      this.#prompts({ ...task, turns }).map((prompt) => ({ ...prompt, spelling })),
    );
    // A single window stays open for its list of categories. Several might together exceed the cache: of those the
    // worst is read again, which takes its last token as long as the cache has the rest.
    const alone = prompts.length === 1;
    const [windows, single] = await settled([
      settled(prompts.map((prompt) => this.#assess(prompt, task, mode === 'joint' && alone, known))),
      mode === 'single' ? this.#single(task) : undefined,
    ]);
    task.signal?.throwIfAborted();
    known?.clear();
    for (const window of windows) known?.set(window.ids.join(), window);
    const worst = worstOf(windows);
    const { score, unsafeProbability, mass } = worst;
    const { named } = mode === 'joint' && !alone ? await this.#assess(worst, task, true) : worst;
    const ofSpelling = (spelling: number) => windows.filter((window) => window.spelling === spelling);
    const count = ofSpelling(worst.spelling).length;
    return {
      score,
      unsafeProbability,
      mass,
      // The list is written after 'unsafe'; a category alone has a verdict of its own.
      byCode: single ?? (named && new Map(Array.from(named, ([code, probability]) => [code, score * probability]))),
      windows: count,
      worstWindow: count > 1 ? excerptOf(worst.turns) : undefined,
      disguise:
        task.spellings.length > 1
          ? { written: worstOf(ofSpelling(0)).score, normalised: worstOf(ofSpelling(1)).score }
          : undefined,
      tokens: {
        prompt: windows.reduce((sum, { ids }) => sum + ids.length, 0),
        cached: windows.reduce((sum, { cached }) => sum + cached, 0),
      },
    };
  }

  /** Lets the model write its verdict and reads it strictly; of a long conversation, about its last window. */
  async write(task: Task): Promise<Verdict> {
    const { policy, signal, spellings } = task;
    const headroom = this.#verdictRoom(policy);
    const { ids } = this.#prompts({ ...task, turns: spellings[0]! }).at(-1)!;
    using prompt = await this.#prefixes.logits(ids, { headroom, signal });
    using session = new Session(this.#llama, prompt.context.fork(), prompt.row);
    const written = await session.generate({ maxTokens: headroom, ...(signal ? { signal } : {}) });
    return parseVerdict(this.#tokenizer.decode(written), policy);
  }

  [Symbol.dispose](): void {
    this.#prefixes[Symbol.dispose]();
  }

  #prompts(shown: Parameters<typeof promptsWithin>[2]): Prompt[] {
    const limit = Math.min(this.#llama.contextLength, this.#llama.cacheTokens) - this.#verdictRoom(shown.policy);
    return promptsWithin(limit, this.#tokenizer, shown);
  }

  /** Reads a prompt and scores the verdict token, and on request the list of categories after it. */
  async #assess(
    prompt: Prompt & Pick<Window, 'spelling'>,
    { policy, signal }: Task,
    joint: boolean,
    known?: KnownWindows,
  ): Promise<Window> {
    const { ids, turns, spelling } = prompt;
    const before = joint ? undefined : known?.get(ids.join());
    if (before) return { ...before, turns, spelling, cached: ids.length };
    const room = this.#verdictRoom(policy);
    const options = { headroom: joint ? room : 0, signal };
    using read = await this.#prefixes.logProbabilities(ids, [this.#safe, this.#unsafe], options);
    const [logSafe, logUnsafe] = read.row as unknown as [number, number];
    const named = joint
      ? await jointProbabilities(this.#llama, this.#tokenizer, policy, read.context, { room, signal })
      : undefined;
    return { ...scoreOf(logSafe, logUnsafe), ids, turns, spelling, cached: read.cached, named };
  }

  /** A policy of each category alone (the paper's 1-vs-all evaluation): the worst window's score by code. */
  async #single(task: Task): Promise<Map<string, number>> {
    const scores = await settled(
      task.policy.categories.map(async ({ code }) => {
        const alone = { ...task, policy: selectCategories(task.policy, [code]) };
        return [code, (await this.read(alone, 'none')).score] as const;
      }),
    );
    return new Map(scores);
  }

  /** Tokens kept free behind a prompt. */
  #verdictRoom(policy: Policy): number {
    return Math.max(verdictTokens, writtenTokens(this.#tokenizer, policy));
  }
}

const worstOf = (windows: readonly Window[]): Window => windows.reduce((a, b) => (b.score > a.score ? b : a));

/** What a window shows of the messages as they came. */
function excerptOf(pieces: readonly Piece<HarmlessTurn>[]): Excerpt {
  const [first, last] = [pieces[0]!, pieces.at(-1)!];
  const spanOf = ({ rewriting, offset, text }: Piece<HarmlessTurn>) => rewriting.spanOf(offset, offset + text.length);
  return {
    from: { messageIndex: first.messageIndex, offset: spanOf(first)[0] },
    to: { messageIndex: last.messageIndex, offset: spanOf(last)[1] },
  };
}

function verdictToken(tokenizer: Tokenizer, piece: string): number {
  const id = tokenizer.idOf(piece);
  if (id !== undefined) return id;
  throw new TokenizerError(
    'tokenizer-mismatch',
    `The tokenizer has no single token '${piece}', which verdicts are read from.`,
  );
}
