import { assertCount } from './assert-options.ts';
import { typeName } from './conversation.ts';
import { ConversationError, OptionError } from './errors.ts';
import type { Message } from './messages.ts';
import type { CheckOptions, Conversation } from './options.ts';
import type { Assessment } from './score.ts';

export interface StreamOptions extends CheckOptions {
  /** Tokens of new text after which it is scored again; 32 by default. */
  readonly every?: number;
  /** Whether it is scored at the ends of sentences, too; by default it is. */
  readonly sentences?: boolean;
}

/** Where a growing text was flagged first, in tokens of it: not yet after `after` of them, but after `by`. */
export interface Crossing {
  readonly after: number;
  readonly by: number;
}

/** What a growing text was found to be so far. */
export interface StreamAssessment extends Assessment {
  /** How much of the text was read, and where it was first flagged: `null` where nowhere. */
  readonly stream: {
    /** UTF-16 units. */
    readonly length: number;
    readonly tokens: number;
    readonly crossed: Crossing | null;
  };
}

/** What a stream needs of its guard. */
interface StreamParts {
  readonly check: (conversation: Conversation, options: CheckOptions) => Promise<Assessment>;
  readonly countTokens: (text: string) => number;
}

/**
 * A sentence that has ended: a mark with what closes around it, then white space, which tells it from `3.14`. Scripts that
 * put no space between sentences have marks of their own.
 */
const sentenceEnd = /[.!?\u2026\u061f\u0964]["'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]/u;

/** Half of a character, whose other half comes with the next piece of text. */
const unfinished = /[\ud800-\udbff]$/;

/**
 * A text that is judged while it grows; `Guard.stream` makes it. Each scoring computes the tokens that are new in it and
 * those of the instruction's end behind them: what came before is kept as long as the cache has room for it.
 *
 * Pieces may be pushed while an earlier one is being scored: they are scored together.
 */
export class GuardStream {
  readonly #before: readonly Message[];
  readonly #options: CheckOptions;
  readonly #every: number;
  readonly #sentences: boolean;
  readonly #parts: StreamParts;
  #text = '';
  /** UTF-16 units that were scored. */
  #scored = 0;
  /** Tokens up to which nothing was flagged. */
  #clean = 0;
  #crossed: Crossing | null = null;
  #ended = false;
  /** The last scoring, or what it was asked after. */
  #last: Promise<unknown> = Promise.resolve();

  /** @throws OptionError `option-invalid` */
  constructor(before: Conversation, { every = 32, sentences = true, ...options }: StreamOptions, parts: StreamParts) {
    assertCount('every', every);
    const said: readonly Message[] =
      typeof before === 'string' ? [{ role: 'user', content: before }] : before.map((message) => ({ ...message }));
    this.#before = said;
    this.#options = options;
    this.#every = every;
    this.#sentences = sentences;
    this.#parts = parts;
  }

  /** The text so far. */
  get text(): string {
    return this.#text;
  }

  /** Where the text was first flagged, of what was scored so far: `null` where nowhere. */
  get crossed(): Crossing | null {
    return this.#crossed;
  }

  /**
   * Adds to the text and scores it where that is due.
   * @returns undefined where it was not due
   * @throws OptionError `option-invalid` after `end`; ConversationError `conversation-invalid` for what is no string; what `Guard.check` throws, and the text stays
   */
  push(text: string): Promise<StreamAssessment | undefined> {
    if (typeof text !== 'string') {
      throw new ConversationError('conversation-invalid', `what is pushed is a string, not ${typeName(text)}`);
    }
    this.#assertOpen();
    this.#text += text;
    return this.#queue(() => (this.#isDue() ? this.#score(this.#text.replace(unfinished, '')) : undefined));
  }

  /** Scores the whole text. */
  end(): Promise<StreamAssessment> {
    this.#assertOpen();
    this.#ended = true;
    return this.#queue(() => this.#score(this.#text));
  }

  #isDue(): boolean {
    const fresh = this.#text.slice(this.#scored);
    return (this.#sentences && sentenceEnd.test(fresh)) || this.#parts.countTokens(fresh) >= this.#every;
  }

  async #score(text: string): Promise<StreamAssessment> {
    const assessment = await this.#parts.check([...this.#before, { role: 'assistant', content: text }], this.#options);
    const tokens = this.#parts.countTokens(text);
    this.#scored = text.length;
    if (assessment.flagged) this.#crossed ??= { after: this.#clean, by: tokens };
    else this.#clean = tokens;
    return { ...assessment, stream: { length: text.length, tokens, crossed: this.#crossed } };
  }

  /** One after another; a failure is its caller's. */
  #queue<T>(task: () => T): Promise<Awaited<T>> {
    const result = this.#last.then(task) as Promise<Awaited<T>>;
    this.#last = result.catch(() => {});
    return result;
  }

  #assertOpen(): void {
    if (this.#ended) throw new OptionError('option-invalid', 'This stream has ended: open another one.');
  }
}
