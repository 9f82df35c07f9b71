import { LlamaGuardError } from '../kernels/errors.ts';

/**
 * A tokenizer that cannot be loaded (`tokenizer-unsupported`: its files are whole, and ask for what is not computed here),
 * does not fit its model, was asked for an id it does not have or a text it cannot
 * hold (`text-too-long`), died inside WebAssembly (`tokenizer-failed`: load it again), or was used after its disposal.
 */
export class TokenizerError extends LlamaGuardError<
  | 'tokenizer-not-found'
  | 'tokenizer-invalid'
  | 'tokenizer-unsupported'
  | 'tokenizer-mismatch'
  | 'tokenizer-failed'
  | 'token-out-of-range'
  | 'text-too-long'
  | 'disposed'
> {}
