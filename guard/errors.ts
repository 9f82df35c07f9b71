import { LlamaGuardError } from '../kernels/errors.ts';

/** A policy that cannot be used; the message names the field. */
export class PolicyError extends LlamaGuardError<
  'policy-not-found' | 'policy-invalid' | 'policy-ambiguous' | 'policy-too-long'
> {}

/** A conversation that cannot be judged as it stands. */
export class ConversationError extends LlamaGuardError<
  'conversation-invalid' | 'conversation-empty' | 'role-unsupported' | 'json-invalid'
> {}

/** Options that make no sense, alone or together. */
export class OptionError extends LlamaGuardError<'option-invalid'> {}

/** Labels, scores or samples that nothing can be measured on. */
export class EvaluationError extends LlamaGuardError<'label-invalid' | 'score-invalid'> {}
