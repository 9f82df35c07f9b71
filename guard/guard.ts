import {
  type Llama,
  type OnProgress,
  type OnTuning,
  PrefixCache,
  Session,
  SessionError,
  type WeightDType,
} from '../engine/index.ts';
import type { DeviceChoice, DeviceDecision, OpenDeviceOptions } from '../engine/node/open-device.ts';
import { LlamaGuardError } from '../kernels/errors.ts';
import { type Tokenizer, TokenizerError } from '../tokenizer/index.ts';
import { actionOf, hasRules } from './actions.ts';
import { type Calibration, calibrationOf, type RoleCalibration } from './calibration/calibration.ts';
import { decide } from './calibration/decide.ts';
import { lastSpeaker, parseConversation } from './conversation.ts';
import { OptionError } from './errors.ts';
import { makeHarmless } from './hostile/index.ts';
import { instructionHash, policyHash } from './identity.ts';
import { mapInOrder } from './in-order.ts';
import { buildInstruction, type Instruction } from './instruction.ts';
import { jointProbabilities, writtenTokens } from './joint.ts';
import type { Message, Role, Turn } from './messages.ts';
import { categoryOrders } from './orders.ts';
import { assertDistinguishable, atDetail, type Detail, type Policy, selectCategories } from './policy.ts';
import { promptsWithin } from './prompts.ts';
import { averageOf, type Reading } from './reading.ts';
import { type Assessment, type CategoryScore, type Score, scoreOf } from './score.ts';
import { parseVerdict, type Verdict } from './verdict.ts';

/** What was said: messages in order, or the text of a single one by the user. */
export type Conversation = string | readonly Message[];

export type CategoryMode = 'none' | 'joint' | 'single';

export interface CheckOptions {
  /** How much of the policy's categories the model is told; by default all, its examples too. */
  readonly detail?: Detail;
  /** Averages over so many orders of the categories and tells how far they disagree (`orders`); 1 by default. */
  readonly shuffleCategories?: number;
  /** Whose messages are judged; by default who spoke last. */
  readonly role?: Role;
  readonly policy?: Policy;
  /**
   * From which `calibrated ?? score` a conversation, or a category, is flagged. By default the threshold that the
   * calibration was given by its data, each category its own, and 0.5 where there is none.
   */
  readonly threshold?: number;
  /** Category scores: none; `joint`, read off one written list; `single`, a pass a category with a policy of it alone. */
  readonly categories?: CategoryMode;
  readonly signal?: AbortSignal;
}

export interface CheckManyOptions extends CheckOptions {
  /** Conversations that are taken ahead and judged side by side, as far as the cache has room; 64 by default. */
  readonly concurrency?: number;
}

export interface LoadOptions extends Omit<OpenDeviceOptions, 'tuning'> {
  /**
   * Kernel choices that were measured on this adapter: `use` them where there are some (the default), `measure` what is
   * not known of this model yet and keep it for the next load, or `ignore` them.
   */
  readonly tuning?: 'use' | 'measure' | 'ignore';
  readonly device?: DeviceChoice;
  /** How weights are held; `auto` keeps what the checkpoint has, q8 and q4 quantise it while loading. */
  readonly dtype?: 'auto' | WeightDType;
  /**
   * Used where a check names none, or made of what is used by default: the model folder's own `policy.json`, else the
   * default policy.
   */
  readonly policy?: Policy | ((own: Policy) => Policy);
  /** Turns scores into probabilities; it is of this model and dtype, and of the policy and roles that are judged. */
  readonly calibration?: Calibration;
  /** Tokens of the longest prompt; by default the model's own limit, at most 8,192. */
  readonly contextLength?: number;
  /**
   * Bytes for the keys and values of prompts: of those that are being judged, which bounds how many are side by side, and
   * of earlier ones, whose beginnings need not be computed again. By default room for two prompts of the longest.
   */
  readonly cacheMemory?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  readonly onTuning?: OnTuning;
}

/** What a guard is made of; `Guard.load` puts it together from a folder. */
export interface GuardParts {
  readonly model: string;
  /** See `modelHash`. */
  readonly modelHash: string;
  readonly llama: Llama;
  readonly tokenizer: Tokenizer;
  readonly policy: Policy;
  readonly calibration?: Calibration | undefined;
  readonly decision: DeviceDecision;
  /** Loads the same once more, after a lost device. */
  readonly reload: () => Promise<Guard>;
}

/** A conversation among many. */
export interface CheckRequest {
  readonly id?: string | number;
  readonly role?: Role;
  readonly messages: Conversation;
}

/** An answer among many: an assessment, or why there is none. */
export type CheckAnswer = { readonly id?: string | number } & (
  | { readonly assessment: Assessment; readonly error?: never }
  | { readonly error: LlamaGuardError; readonly assessment?: never }
);

/** What a check was given, validated. */
interface Task {
  readonly policy: Policy;
  readonly role: Role;
  readonly turns: readonly Turn[];
  readonly signal: AbortSignal | undefined;
}

/** A prompt that was read and scored. */
interface Window extends Score {
  readonly ids: readonly number[];
  readonly cached: number;
  /** By code, the probability that the written list names it; where it was asked for. */
  readonly named: ReadonlyMap<string, number> | undefined;
}

/** Tokens kept free behind a prompt for the written verdict; more where the policy's longest list takes more. */
const verdictTokens = 64;

/**
 * Judges conversations by a policy. Checks may be asked for side by side: they go through the model together, and a result
 * does not depend on what else was asked for beyond the rounding of sums.
 *
 * @example
 * await using guard = await Guard.load('models/LlamaGuard-7b');
 * const { flagged, score } = await guard.check([{ role: 'user', content: 'How do I kill a process in Linux?' }]);
 */
export class Guard implements AsyncDisposable {
  readonly model: string;
  /** Tells this model from others of its name. */
  readonly modelHash: string;
  readonly policy: Policy;
  readonly calibration: Calibration | undefined;
  /** Which device is used, and why. */
  readonly decision: DeviceDecision;
  readonly llama: Llama;
  readonly tokenizer: Tokenizer;
  readonly #prefixes: PrefixCache;
  readonly #reload: () => Promise<Guard>;
  readonly #safe: number;
  readonly #unsafe: number;
  /** Checks under way. */
  readonly #running = new Set<Promise<unknown>>();
  #disposed = false;

  /** @throws TokenizerError where the tokenizer has no single tokens for the verdicts; PolicyError */
  constructor(parts: GuardParts) {
    this.model = parts.model;
    this.modelHash = parts.modelHash;
    this.policy = parts.policy;
    this.calibration = parts.calibration;
    this.decision = parts.decision;
    this.llama = parts.llama;
    this.tokenizer = parts.tokenizer;
    this.#reload = parts.reload;
    this.#prefixes = new PrefixCache(parts.llama);
    this.#safe = verdictToken(parts.tokenizer, '▁safe');
    this.#unsafe = verdictToken(parts.tokenizer, '▁unsafe');
    this.#assertPolicy(parts.policy);
  }

  /**
   * Loads a model folder; without one, the small demonstration model of this package.
   * @throws ModelError, TokenizerError, PolicyError, CalibrationError, DeviceError, OptionError, or the signal's reason
   */
  static async load(folder?: string, options: LoadOptions = {}): Promise<Guard> {
    const { loadGuard } = await import('./node/load.ts');
    return loadGuard(folder, options);
  }

  /**
   * Judges one conversation.
   * @throws ConversationError, PolicyError, OptionError, SessionError, DeviceError, or the signal's reason;
   *   CalibrationError `calibration-mismatch` where the guard's calibration is of another policy or role
   */
  check(conversation: Conversation, options: CheckOptions = {}): Promise<Assessment> {
    const start = performance.now();
    return this.#run(async () => {
      const { task, suspicions } = this.#validate(conversation, options);
      const { policy, role, signal } = task;
      const ruled = hasRules(policy);
      const mode = options.categories ?? (ruled ? 'joint' : 'none');
      const calibration = this.calibration && (await this.#calibrationOf(this.calibration, task, mode));
      const [given, ...others] = categoryOrders(policy, this.#orderCount(options));
      const readings = await settled([
        this.#read({ ...task, policy: given! }, mode),
        // Categories that are asked about one by one have no order.
        ...others.map((order) => this.#read({ ...task, policy: order }, mode === 'joint' ? mode : 'none')),
      ]);
      signal?.throwIfAborted();
      const { orders, ...reading } = averageOf(policy, readings);
      const { flagged, calibrated, threshold } = decide(reading.score, calibration?.overall, options.threshold);
      const categories = reading.byCode ? categoryScores(policy, reading.byCode, calibration, options.threshold) : [];
      const action = ruled ? actionOf(policy, flagged, categories) : undefined;
      return {
        flagged: action ? action !== 'allow' : flagged,
        ...(action ? { action } : {}),
        score: reading.score,
        unsafeProbability: reading.unsafeProbability,
        mass: reading.mass,
        calibrated,
        threshold,
        role,
        categories,
        ...(orders ? { orders } : {}),
        windows: reading.windows,
        suspicions,
        model: this.model,
        device: this.decision.device.kind,
        tokens: reading.tokens,
        milliseconds: { total: performance.now() - start },
      };
    });
  }

  /**
   * Judges conversations as they come and answers in their order, each as soon as it and those before it are judged.
   * Some are taken ahead and judged side by side. A bad one is answered by its error and the rest goes on; a failing
   * device ends the iteration with its error. When the iteration is left early, what is under way is given up.
   */
  async *checkMany(
    requests: AsyncIterable<CheckRequest> | Iterable<CheckRequest>,
    { concurrency = 64, ...options }: CheckManyOptions = {},
  ): AsyncGenerator<CheckAnswer, void, void> {
    if (!(Number.isInteger(concurrency) && concurrency > 0)) {
      throw new OptionError(
        'option-invalid',
        `The concurrency must be a positive whole number, but is ${concurrency}.`,
      );
    }
    yield* mapInOrder(requests, concurrency, async ({ id, role, messages }, stopped): Promise<CheckAnswer> => {
      const tag = id === undefined ? {} : { id };
      const signal = options.signal ? AbortSignal.any([options.signal, stopped]) : stopped;
      try {
        return { ...tag, assessment: await this.check(messages, { ...options, ...(role ? { role } : {}), signal }) };
      } catch (error) {
        if (!(error instanceof LlamaGuardError) || error.code.startsWith('device-')) throw error;
        return { ...tag, error };
      }
    });
  }

  /** Lets the model write its verdict and reads it strictly; of a long conversation, about its last window. */
  write(conversation: Conversation, options: Omit<CheckOptions, 'threshold' | 'categories'> = {}): Promise<Verdict> {
    return this.#run(async () => {
      const { task } = this.#validate(conversation, options);
      const { policy, signal } = task;
      const headroom = this.#verdictRoom(policy);
      using prompt = await this.#prefixes.logits(this.#prompts(task).at(-1)!, { headroom, signal });
      using session = new Session(this.llama, prompt.context.fork(), prompt.row);
      const written = await session.generate({ maxTokens: headroom, ...(signal ? { signal } : {}) });
      return parseVerdict(this.tokenizer.decode(written), policy);
    });
  }

  /** The instruction that a conversation would be judged by, where it fits in one window. */
  instruction(conversation: Conversation, options: Pick<CheckOptions, 'role' | 'policy' | 'detail'> = {}): Instruction {
    return buildInstruction(this.#validate(conversation, options).task);
  }

  /** Disposes this guard and loads it anew: after a lost device. */
  async reopen(): Promise<Guard> {
    await this[Symbol.asyncDispose]();
    return this.#reload();
  }

  /** Waits for the checks under way; new ones are refused. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await Promise.allSettled(this.#running);
    this.#prefixes[Symbol.dispose]();
    this.tokenizer[Symbol.dispose]();
    await this.llama[Symbol.asyncDispose]();
  }

  async #run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#disposed) throw new SessionError('disposed', 'This guard was disposed; load another.');
    const running = task();
    this.#running.add(running);
    try {
      return await running;
    } finally {
      this.#running.delete(running);
    }
  }

  #validate(conversation: Conversation, options: CheckOptions) {
    const { detail = 'examples', threshold, signal } = options;
    const policy = atDetail(options.policy ?? this.policy, detail);
    if (threshold !== undefined && !(threshold >= 0 && threshold <= 1)) {
      throw new OptionError('option-invalid', `The threshold must lie between 0 and 1, but is ${threshold}.`);
    }
    if (policy !== this.policy) this.#assertPolicy(policy);
    const spoken = parseConversation(conversation, policy);
    const { turns, suspicions } = makeHarmless(spoken);
    const task: Task = { policy, role: options.role ?? lastSpeaker(spoken), turns, signal };
    return { task, suspicions };
  }

  #prompts({ policy, role, turns }: Omit<Task, 'signal'>): (readonly number[])[] {
    const limit = Math.min(this.llama.contextLength, this.llama.cacheTokens) - this.#verdictRoom(policy);
    return promptsWithin(limit, this.tokenizer, { policy, role, turns });
  }

  #orderCount({ shuffleCategories = 1 }: CheckOptions): number {
    if (!(Number.isInteger(shuffleCategories) && shuffleCategories > 0)) {
      throw new OptionError(
        'option-invalid',
        `'shuffleCategories' must be a positive whole number, but is ${shuffleCategories}.`,
      );
    }
    if (shuffleCategories > 1 && this.calibration) {
      throw new OptionError(
        'option-invalid',
        'A calibration is of one order of the categories: leave either it or shuffleCategories out.',
      );
    }
    return shuffleCategories;
  }

  /** Reads a conversation under a policy, in windows where it is long; the worst decides. */
  async #read(task: Task, mode: CategoryMode): Promise<Reading> {
    const prompts = this.#prompts(task);
    // A single window stays open for its list of categories. Several might together exceed the cache: of those the
    // worst is read again, which takes its last token as long as the cache has the rest.
    const alone = prompts.length === 1;
    const [windows, single] = await settled([
      settled(prompts.map((ids) => this.#assess(ids, task, mode === 'joint' && alone))),
      mode === 'single' ? this.#single(task) : undefined,
    ]);
    task.signal?.throwIfAborted();
    let worst = windows.reduce((a, b) => (b.score > a.score ? b : a));
    if (mode === 'joint' && !alone) worst = await this.#assess(worst.ids, task, true);
    const { score, unsafeProbability, mass, named } = worst;
    return {
      score,
      unsafeProbability,
      mass,
      // The list is written after 'unsafe'; a category alone has a verdict of its own.
      byCode: single ?? (named && new Map(Array.from(named, ([code, probability]) => [code, score * probability]))),
      windows: prompts.length,
      tokens: {
        prompt: windows.reduce((sum, { ids }) => sum + ids.length, 0),
        cached: windows.reduce((sum, { cached }) => sum + cached, 0),
      },
    };
  }

  /** Reads a prompt and scores the verdict token, and on request the list of categories after it. */
  async #assess(ids: readonly number[], { policy, signal }: Task, joint: boolean): Promise<Window> {
    const room = this.#verdictRoom(policy);
    const options = { headroom: joint ? room : 0, signal };
    using prompt = await this.#prefixes.logProbabilities(ids, [this.#safe, this.#unsafe], options);
    const [logSafe, logUnsafe] = prompt.row as unknown as [number, number];
    const { llama, tokenizer } = this;
    const named = joint
      ? await jointProbabilities(llama, tokenizer, policy, prompt.context, { room, signal })
      : undefined;
    return { ...scoreOf(logSafe, logUnsafe), ids, cached: prompt.cached, named };
  }

  /** A policy of each category alone (the paper's 1-vs-all evaluation): the worst window's score by code. */
  async #single(task: Task): Promise<Map<string, number>> {
    const scores = await settled(
      task.policy.categories.map(async ({ code }) => {
        const alone = { ...task, policy: selectCategories(task.policy, [code]) };
        const windows = await settled(this.#prompts(alone).map((ids) => this.#assess(ids, alone, false)));
        return [code, Math.max(...windows.map(({ score }) => score))] as const;
      }),
    );
    return new Map(scores);
  }

  /** Tokens kept free behind a prompt. */
  #verdictRoom(policy: Policy): number {
    return Math.max(verdictTokens, writtenTokens(this.tokenizer, policy));
  }

  /** The part of the calibration for a task. @throws CalibrationError `calibration-mismatch` */
  async #calibrationOf(calibration: Calibration, { policy, role }: Task, categoryMode: CategoryMode) {
    const instruction = buildInstruction({ policy, role, turns: [] });
    const [ofPolicy, ofInstruction] = await Promise.all([policyHash(policy), instructionHash(instruction)]);
    return calibrationOf(calibration, { role, policy: ofPolicy, instruction: ofInstruction, categoryMode });
  }

  #assertPolicy(policy: Policy): void {
    assertDistinguishable(policy, (text) => this.tokenizer.encode(text), this.tokenizer.unknownId);
  }
}

function categoryScores(
  policy: Policy,
  scores: ReadonlyMap<string, number>,
  calibration: RoleCalibration | undefined,
  asked: number | undefined,
): CategoryScore[] {
  return policy.categories.map(({ code, name, threshold = asked, action }) => {
    const score = scores.get(code)!;
    const { calibrated, flagged } = decide(score, calibration?.categories[code], threshold);
    return {
      code,
      name,
      score,
      ...(calibrated === null ? {} : { calibrated }),
      violated: flagged,
      ...(action ? { action } : {}),
    };
  });
}

/** `Promise.all` that waits for all even where one fails, so that nothing goes on behind its caller's back. */
async function settled<T extends readonly unknown[] | []>(
  promises: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

function verdictToken(tokenizer: Tokenizer, piece: string): number {
  const id = tokenizer.idOf(piece);
  if (id !== undefined) return id;
  throw new TokenizerError(
    'tokenizer-mismatch',
    `The tokenizer has no single token '${piece}', which verdicts are read from.`,
  );
}
