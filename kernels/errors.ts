/**
 * Every error this package throws on purpose is a `LlamaGuardError`: `code` is stable and meant for programs, `message`
 * says what was expected, what came and what to do about it. Each floor of the house has its own subclasses.
 */
export class LlamaGuardError<Code extends string = string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** Tensors whose shapes or dtypes do not satisfy an operation's contract; thrown before anything is computed. */
export class ContractError extends LlamaGuardError<'dtype-mismatch' | 'shape-mismatch' | 'no-variant'> {}
