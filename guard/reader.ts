import { type Context, type Llama, PrefixCache, Session } from '../engine/index.ts';
import { Pace } from '../engine/pace.ts';
import type { Tokenizer } from '../tokenizer/index.ts';
import { type Answer, type AnswerTokens, answerTokens, readAnswer } from './answer.ts';
import { answerRoom } from './answer-room.ts';
import type { PromptFormat } from './formats/index.ts';
import type { HarmlessTurn } from './hostile/index.ts';
import { jointProbabilities, unsafeVerdicts, WrittenList } from './joint.ts';
import { type Role, roles } from './messages.ts';
import type { CategoryMode } from './options.ts';
import { type Policy, selectCategories } from './policy.ts';
import { type Prompt, promptsWithin } from './prompts.ts';
import type { Reading } from './reading.ts';
import { type Excerpt, type Score, scoreOf } from './score.ts';
import { settled } from './settled.ts';
import type { Verdict } from './verdict.ts';
import type { Piece } from './windows.ts';

/** What is to be read. */
export interface Task {
  readonly policy: Policy;
  readonly role: Role;
  /** The conversation in each of its spellings: as it was written, and with disguised words normalised. */
  readonly spellings: readonly (readonly HarmlessTurn[])[];
  /** The name of the adapter that it is read with. */
  readonly adapter: string | undefined;
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

/** Puts conversations to the model and reads its answers off the logits. */
export class Reader implements Disposable {
  readonly #llama: Llama;
  readonly #tokenizer: Tokenizer;
  readonly #format: PromptFormat;
  readonly #prefixes: PrefixCache;
  /** By role and the prompt's end. */
  readonly #answers = new Map<string, AnswerTokens>();
  /** Tokens kept free behind a prompt: by the categories, and then by the same and what their lists may have in them. */
  readonly #rooms = new WeakMap<Policy['categories'], Map<string, number>>();
  readonly #pace = new Pace();

  /** @throws TokenizerError `tokenizer-mismatch` where the tokenizer cannot tell the format's verdicts apart */
  constructor(llama: Llama, tokenizer: Tokenizer, format: PromptFormat) {
    this.#llama = llama;
    this.#tokenizer = tokenizer;
    this.#format = format;
    for (const role of roles) this.#answerTokens({ role }, format.frame(format.policy, role).after.User);
    this.#prefixes = new PrefixCache(llama);
  }

  /**
   * Reads a conversation under a policy. Of several windows, and of two spellings, the worst decides.
   * @param known windows that need not be read again; afterwards those of this reading
   * @throws PolicyError `policy-too-long`, TokenizerError `tokenizer-mismatch`, SessionError, DeviceError, or the
   *   signal's reason
   */
  async read(task: Task, asked: CategoryMode, known?: KnownWindows): Promise<Reading> {
    const mode = this.#format.answer.list ? asked : 'none';
    const prompts: (Prompt & Pick<Window, 'spelling'>)[] = [];
    for (const [spelling, turns] of task.spellings.entries()) {
      for (const prompt of await this.#prompts(task, turns)) prompts.push({ ...prompt, spelling });
    }
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
    const { score, unsafeProbability, mass, forced, labels } = worst;
    const { named } = mode === 'joint' && !alone ? await this.#assess(worst, task, true) : worst;
    const ofSpelling = (spelling: number) => windows.filter((window) => window.spelling === spelling);
    const count = ofSpelling(worst.spelling).length;
    return {
      score,
      unsafeProbability,
      mass,
      ...(forced === undefined ? {} : { forced }),
      ...(labels ? { labels } : {}),
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
    const { signal, adapter, spellings } = task;
    const { ids, end } = (await this.#prompts(task, spellings[0]!)).at(-1)!;
    const headroom = this.#room(task, end);
    using prompt = await this.#prefixes.logits(ids, { headroom, adapter, signal });
    using session = new Session(this.#llama, prompt.context.fork(), prompt.rows[0]!);
    const written = await session.generate({ maxTokens: headroom, ...(signal ? { signal } : {}) });
    return this.#format.answer.parse(this.#decode(written), task);
  }

  [Symbol.dispose](): void {
    this.#prefixes[Symbol.dispose]();
  }

  /** What a model has written. It may have rows for more tokens than there are: the first of those spoils the rest. */
  #decode(written: readonly number[]): string {
    const spoilt = written.findIndex((id) => id >= this.#tokenizer.vocabularySize);
    return spoilt === -1
      ? this.#tokenizer.decode(written)
      : `${this.#tokenizer.decode(written.slice(0, spoilt))}\ufffd`;
  }

  #prompts(task: Task, turns: readonly HarmlessTurn[]): Promise<Prompt[]> {
    const frame = this.#format.frame(task.policy, task.role);
    const reserved = this.#room(task, frame.after.User);
    const tokens = Math.min(this.#llama.contextLength, this.#llama.cacheTokens);
    return promptsWithin({ tokens, reserved }, this.#tokenizer, frame, turns, (piece) =>
      this.#pace.do(() => {
        task.signal?.throwIfAborted();
        return piece();
      }),
    );
  }

  /** Reads a prompt and scores the verdict, and on request the list of categories after it. */
  async #assess(
    prompt: Prompt & Pick<Window, 'spelling'>,
    task: Task,
    joint: boolean,
    known?: KnownWindows,
  ): Promise<Window> {
    const { ids } = prompt;
    const before = joint ? undefined : known?.get(ids.join());
    if (before) return { ...before, ...prompt, cached: ids.length };
    const { signal, adapter } = task;
    const room = this.#room(task, prompt.end);
    const tokens = this.#answerTokens(task, prompt.end);
    const options = { headroom: joint ? room : 0, adapter, signal };
    using answer = await readAnswer(this.#llama, this.#prefixes, ids, tokens, options);
    const named = joint ? await this.#named(answer, task, prompt.end) : undefined;
    return { ...scoreOf(answer), ...prompt, cached: answer.cached, named };
  }

  /** By code, the probability that the list after an unsafe verdict names it: the mean over the ways to write one. */
  async #named(
    answer: Pick<Answer, 'labels'> & { readonly context: Context },
    task: Task,
    end: string,
  ): Promise<Map<string, number>> {
    const named = new Map(task.policy.categories.map(({ code }) => [code, 0]));
    const options = { room: this.#room(task, end), signal: task.signal };
    for (const { text, probability } of unsafeVerdicts(answer)) {
      const list = this.#list(task, end, text);
      for (const [code, given] of await jointProbabilities(this.#llama, list, answer.context, options)) {
        named.set(code, named.get(code)! + probability * given);
      }
    }
    return named;
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

  #answerTokens({ role }: Pick<Task, 'role'>, end: string): AnswerTokens {
    const key = keyOf(role, end);
    const tokens = this.#answers.get(key) ?? answerTokens(this.#tokenizer, this.#format.answer, role, end);
    this.#answers.set(key, tokens);
    return tokens;
  }

  /** Of a format that has lists. */
  #list(task: Task, end: string, verdict: string): WrittenList {
    return new WrittenList(this.#format.answer.list!, verdict, this.#answerTokens(task, end), task.policy);
  }

  /** Tokens kept free behind a prompt. */
  #room(task: Task, end: string): number {
    const { categories } = task.policy;
    const rooms = this.#rooms.get(categories) ?? new Map<string, number>();
    this.#rooms.set(categories, rooms);
    // A policy may have changed since.
    const key = JSON.stringify([task.role, end, categories.map(({ code, name }) => [code, name])]);
    const room = rooms.get(key) ?? answerRoom(this.#format.answer, this.#answerTokens(task, end), task.policy);
    rooms.set(key, room);
    return room;
  }
}

const keyOf = (role: Role, end: string) => `${role} ${end}`;

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
