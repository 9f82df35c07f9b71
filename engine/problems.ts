import { LlamaGuardError } from '../kernels/errors.ts';
import { ModelError } from './errors.ts';

/**
 * What is wrong with something that is read in parts: a part that cannot be read is noted, and reading goes on with those
 * that do not depend on it, so that all can be told at once.
 */
export class Problems {
  readonly #errors: LlamaGuardError[] = [];

  /** In the order in which they were met. */
  get errors(): readonly LlamaGuardError[] {
    return this.#errors;
  }

  /** Notes errors; of several that are told in the same words, the first. */
  note(...errors: readonly LlamaGuardError[]): void {
    for (const error of errors) {
      if (!this.#errors.some(({ message }) => message === error.message)) this.#errors.push(error);
    }
  }

  /** What `read` makes; undefined where it throws an error of this package's, which is noted. */
  attempt<Made>(read: () => Made): Made | undefined {
    try {
      return read();
    } catch (error) {
      this.#noteThrown(error);
      return undefined;
    }
  }

  /** The same of what takes time. */
  async attemptAsync<Made>(read: () => Promise<Made>): Promise<Made | undefined> {
    try {
      return await read();
    } catch (error) {
      this.#noteThrown(error);
      return undefined;
    }
  }

  #noteThrown(error: unknown): void {
    if (!(error instanceof LlamaGuardError)) throw error;
    this.note(error);
  }
}

/** What `read` makes where it meets no problem. @throws the first that it meets */
export function orThrow<Made>(read: (problems: Problems) => Made | undefined): Made {
  const problems = new Problems();
  const made = read(problems);
  const [first] = problems.errors;
  if (first) throw first;
  return made!;
}

/** The first error of each code, which says how many there are like it. */
export function firstOfEachCode(errors: readonly ModelError[]): ModelError[] {
  return errors
    .filter(({ code }, i) => errors.findIndex((other) => other.code === code) === i)
    .map((first) => {
      const others = errors.filter(({ code }) => code === first.code).length - 1;
      return others === 0 ? first : new ModelError(first.code, `${first.message} So it is with ${others} more.`);
    });
}
