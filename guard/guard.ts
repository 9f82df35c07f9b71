import type { DeviceDecision } from '../engine/device-choice.ts';
import { type Llama, SessionError } from '../engine/index.ts';
import { LlamaGuardError } from '../kernels/errors.ts';
import type { Tokenizer } from '../tokenizer/index.ts';
import { actionOf, hasRules } from './actions.ts';
import { assertCheckOptions, assertCount, assertOptions, assertRequest, assertRequests } from './assert-options.ts';
import { assertCalibrates, type Calibration, calibrationOf, type RoleCalibration } from './calibration/calibration.ts';
import { decide } from './calibration/decide.ts';
import { isRecord, lastSpeaker, parseConversation, parseRole } from './conversation.ts';
import { OptionError } from './errors.ts';
import { assertAskable } from './formats/chat-template.ts';
import type { PromptFormat } from './formats/index.ts';
import { makeHarmless } from './hostile/index.ts';
import { instructionHash, policyHash } from './identity.ts';
import { mapInOrder } from './in-order.ts';
import { type Instruction, instructionOf } from './instruction.ts';
import type {
  CategoryMode,
  CheckAnswer,
  CheckManyOptions,
  CheckOptions,
  CheckRequest,
  Conversation,
  LoadOptions,
} from './options.ts';
import { categoryOrders } from './orders.ts';
import { assertDistinguishable, assertValid, atDetail, type Policy } from './policy.ts';
import { type KnownWindows, Reader, type Task } from './reader.ts';
import { averageOf } from './reading.ts';
import type { Assessment, CategoryScore } from './score.ts';
import { settled } from './settled.ts';
import { GuardStream, type StreamOptions } from './stream.ts';
import type { Verdict } from './verdict.ts';

/** What a guard is made of; `assembleGuard` puts it together from a folder. */
export interface GuardParts {
  readonly model: string;
  /** See `modelHash`. */
  readonly modelHash: string;
  /** See `adaptedHash`; by the names of the adapters that are kept beside the model. */
  readonly adapterHashes: ReadonlyMap<string, string>;
  readonly llama: Llama;
  readonly tokenizer: Tokenizer;
  readonly format: PromptFormat;
  readonly policy: Policy;
  readonly calibration?: Calibration | undefined;
  readonly decision: DeviceDecision;
  /** Kernels that were asked for, by operation. */
  readonly prefer?: LoadOptions['prefer'];
  /** Loads the same once more, after a lost device. */
  readonly reload: () => Promise<Guard>;
}

/**
 * Judges conversations by a policy. Checks may be asked for side by side: they go through the model together, and a result
 * does not depend on what else was asked for beyond the rounding of sums.
 *
 * The same on every platform; node/guard.ts and browser/guard.ts add how it is loaded there.
 */
export class Guard implements AsyncDisposable {
  readonly model: string;
  /** Tells this model, and what is merged into it, from others of its name. */
  readonly modelHash: string;
  /** How the model is asked and answers. */
  readonly format: PromptFormat;
  readonly policy: Policy;
  readonly calibration: Calibration | undefined;
  /** Which device is used, and why. */
  readonly decision: DeviceDecision;
  /** The kernels that it was asked to compute with, by operation; undefined where the engine chose. */
  readonly prefer: LoadOptions['prefer'];
  readonly llama: Llama;
  readonly tokenizer: Tokenizer;
  readonly #adapterHashes: ReadonlyMap<string, string>;
  readonly #reader: Reader;
  readonly #reload: () => Promise<Guard>;
  /** Checks under way. */
  readonly #running = new Set<Promise<unknown>>();
  /** Policies that were found to be sound, as they stood then. */
  readonly #sound = new WeakMap<Policy, string>();
  #disposed = false;

  /** @throws PolicyError; TokenizerError `tokenizer-mismatch` where it is not of a guard in this prompt format */
  constructor(parts: GuardParts) {
    this.model = parts.model;
    this.modelHash = parts.modelHash;
    this.#adapterHashes = parts.adapterHashes;
    this.format = parts.format;
    this.policy = parts.policy;
    this.calibration = parts.calibration;
    this.decision = parts.decision;
    this.prefer = parts.prefer;
    this.llama = parts.llama;
    this.tokenizer = parts.tokenizer;
    this.#reload = parts.reload;
    this.#reader = new Reader(parts.llama, parts.tokenizer, parts.format);
    this.#assertPolicy(parts.policy);
    assertAskable(parts.format, parts.policy);
  }

  /** The names of the adapters that checks may ask for. */
  get adapters(): readonly string[] {
    return [...this.#adapterHashes.keys()];
  }

  /** `modelHash` with one of the adapters, or without. @throws OptionError for one there is not */
  modelHashOf(adapter?: string): string {
    this.#assertAdapter(adapter);
    return adapter === undefined ? this.modelHash : this.#adapterHashes.get(adapter)!;
  }

  /**
   * Judges one conversation.
   * @throws ConversationError, PolicyError, OptionError, SessionError, DeviceError, or the signal's reason;
   *   CalibrationError `calibration-mismatch` where the guard's calibration is of another policy, role or adapter
   */
  check(conversation: Conversation, options: CheckOptions = {}): Promise<Assessment> {
    return this.#check(conversation, options);
  }

  /**
   * Judges an answer of the agent's while it is written: what is new of it is read as it comes, and it is scored again and
   * again, each time as `check` would score the conversation with the answer so far.
   *
   * @param conversation what was said before; may be empty
   * @throws ConversationError, PolicyError, OptionError
   * @example
   * const stream = guard.stream([{ role: 'user', content: question }]);
   * for await (const text of answer) {
   *   const assessment = await stream.push(text);
   *   if (assessment?.flagged) break;
   * }
   */
  stream(conversation: Conversation, options: StreamOptions = {}): GuardStream {
    // The answer may be the first that is said.
    this.#validate(Array.isArray(conversation) && conversation.length === 0 ? '' : conversation, options);
    this.#orderCount(options);
    const known: KnownWindows = new Map();
    return new GuardStream(conversation, options, {
      check: (soFar, checkOptions) => this.#check(soFar, checkOptions, known),
      countTokens: (text) => this.tokenizer.count(text),
    });
  }

  /**
   * Judges conversations as they come and answers in their order, each as soon as it and those before it are judged.
   * Some are taken ahead and judged side by side. A bad one is answered by its error and the rest goes on; a failing
   * device ends the iteration with its error. When the iteration is left early, what is under way is given up.
   */
  async *checkMany<Id = string | number>(
    requests: AsyncIterable<CheckRequest<Id>> | Iterable<CheckRequest<Id>>,
    manyOptions: CheckManyOptions = {},
  ): AsyncGenerator<CheckAnswer<Id>, void, void> {
    assertOptions(manyOptions);
    const { concurrency = 64, ...options } = manyOptions;
    assertCount('concurrency', concurrency);
    assertRequests(requests);
    yield* mapInOrder(requests, concurrency, async (request, stopped): Promise<CheckAnswer<Id>> => {
      const tag = isRecord(request) && request.id !== undefined ? { id: request.id } : {};
      const signal = options.signal ? AbortSignal.any([options.signal, stopped]) : stopped;
      try {
        assertRequest(request);
        const { messages, role } = request;
        const own = { ...options, ...(role == null ? {} : { role }), signal };
        return { ...tag, assessment: await this.check(messages, own) };
      } catch (error) {
        if (!(error instanceof LlamaGuardError) || error.code.startsWith('device-')) throw error;
        return { ...tag, error };
      }
    });
  }

  /** Lets the model write its verdict and reads it strictly; of a long conversation, about its last window. */
  write(
    conversation: Conversation,
    options: Omit<CheckOptions, 'threshold' | 'categories' | 'shuffleCategories'> = {},
  ): Promise<Verdict> {
    return this.#run(async () => this.#reader.write(this.#validate(conversation, options).task));
  }

  /** The instruction that a conversation would be judged by, where it fits in one window. */
  instruction(conversation: Conversation, options: Pick<CheckOptions, 'role' | 'policy' | 'detail'> = {}): Instruction {
    const { policy, role, spellings } = this.#validate(conversation, options).task;
    return instructionOf(this.format.frame(policy, role), spellings[0]!);
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
    this.#reader[Symbol.dispose]();
    this.tokenizer[Symbol.dispose]();
    await this.llama[Symbol.asyncDispose]();
  }

  #check(conversation: Conversation, options: CheckOptions, known?: KnownWindows): Promise<Assessment> {
    const start = performance.now();
    return this.#run(async () => {
      const { task, suspicions } = this.#validate(conversation, options);
      const { policy, role, signal } = task;
      const ruled = hasRules(policy);
      const mode = options.categories ?? (ruled ? 'joint' : 'none');
      const calibration = this.calibration && (await this.#calibrationOf(this.calibration, task, mode));
      const [given, ...others] = categoryOrders(policy, this.#orderCount(options));
      const readings = await settled([
        this.#reader.read({ ...task, policy: given! }, mode, known),
        // Categories that are asked about one by one have no order.
        ...others.map((order) => this.#reader.read({ ...task, policy: order }, mode === 'joint' ? mode : 'none')),
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
        ...(reading.forced === undefined ? {} : { forced: reading.forced }),
        ...(reading.labels ? { labels: reading.labels } : {}),
        calibrated,
        threshold,
        role,
        categories,
        ...(orders ? { orders } : {}),
        windows: reading.windows,
        ...(reading.worstWindow ? { worstWindow: reading.worstWindow } : {}),
        ...(reading.disguise ? { disguise: reading.disguise } : {}),
        suspicions,
        model: this.model,
        ...(task.adapter === undefined ? {} : { adapter: task.adapter }),
        device: this.decision.device.kind,
        tokens: reading.tokens,
        milliseconds: { total: performance.now() - start },
      };
    });
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
    assertCheckOptions(options);
    const { detail = 'examples', adapter, signal } = options;
    this.#assertAdapter(adapter);
    const whole = options.policy ?? this.policy;
    this.#assertPolicy(whole);
    const policy = atDetail(whole, detail);
    assertAskable(this.format, policy);
    const spoken = parseConversation(conversation, policy);
    const { turns, normalised, suspicions } = makeHarmless(spoken);
    const spellings = normalised ? [turns, normalised] : [turns];
    const role = options.role === undefined ? lastSpeaker(spoken) : parseRole(options.role, "'role'");
    const task: Task = { policy, role, spellings, adapter, signal };
    return { task, suspicions };
  }

  #orderCount({ shuffleCategories = 1 }: CheckOptions): number {
    assertCount('shuffleCategories', shuffleCategories);
    if (shuffleCategories > 1 && this.calibration) {
      throw new OptionError(
        'option-invalid',
        'A calibration is of one order of the categories: leave either it or shuffleCategories out.',
      );
    }
    return shuffleCategories;
  }

  /** The part of the calibration for a task. @throws CalibrationError `calibration-mismatch` */
  async #calibrationOf(calibration: Calibration, { policy, role, adapter }: Task, categoryMode: CategoryMode) {
    const model = { name: adaptedName(this.model, adapter), hash: this.modelHashOf(adapter) };
    assertCalibrates(calibration, { model, dtype: this.llama.dtype });
    const instruction = instructionOf(this.format.frame(policy, role), []);
    const [ofPolicy, ofInstruction] = await Promise.all([policyHash(policy), instructionHash(instruction)]);
    return calibrationOf(calibration, { role, policy: ofPolicy, instruction: ofInstruction, categoryMode });
  }

  #assertAdapter(adapter: string | undefined): void {
    if (adapter === undefined || this.#adapterHashes.has(adapter)) return;
    const known = this.adapters.length > 0 ? `there are ${this.adapters.join(', ')}` : 'it was loaded without any';
    throw new OptionError('option-invalid', `This guard has no adapter '${adapter}': ${known}.`);
  }

  /** Looks at a policy when it comes first, and again where it has changed since: it may be anyone's. */
  #assertPolicy(policy: Policy): void {
    const sound = this.#sound.get(policy);
    if (sound !== undefined && sound === JSON.stringify(policy)) return;
    if (policy !== this.format.policy) assertValid(policy, "'policy'");
    const { list } = this.format.answer;
    const { unknownId } = this.tokenizer;
    if (list) assertDistinguishable(policy, (text) => this.tokenizer.encode(text), unknownId, list.written);
    this.#sound.set(policy, JSON.stringify(policy));
  }
}

/** What a model with an adapter is called. */
export const adaptedName = (model: string, adapter: string | undefined): string =>
  adapter === undefined ? model : `${model}+${adapter}`;

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
