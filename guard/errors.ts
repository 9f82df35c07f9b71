import { LlamaGuardError } from '../kernels/errors.ts';

/** A policy that cannot be used; the message names the field. */
export class PolicyError extends LlamaGuardError<
  'policy-not-found' | 'policy-invalid' | 'policy-ambiguous' | 'policy-too-long' | 'policy-fixed'
> {}

/** A model's way of being asked that is not known, or a chat template that cannot be used; the message says why. */
export class FormatError extends LlamaGuardError<'format-unknown' | 'template-invalid' | 'template-unsupported'> {}

/** A conversation that cannot be judged as it stands. */
export class ConversationError extends LlamaGuardError<
  'conversation-invalid' | 'conversation-empty' | 'role-unsupported' | 'json-invalid'
> {}

/** Options that make no sense, alone or together. */
export class OptionError extends LlamaGuardError<'option-invalid'> {}

/** Labels, scores or samples that nothing can be measured on; the message names the line, or the file and its field. */
export class EvaluationError extends LlamaGuardError<
  | 'data-not-found'
  | 'data-invalid'
  | 'label-invalid'
  | 'score-invalid'
  | 'metric-undefined'
  | 'id-duplicate'
  | 'category-unknown'
  | 'map-invalid'
  | 'no-labels'
  | 'run-invalid'
  | 'system-unknown'
> {}

/** A calibration that cannot be fitted, read, or used with this model, policy, role or dtype. */
export class CalibrationError extends LlamaGuardError<
  'calibration-not-found' | 'calibration-invalid' | 'calibration-mismatch' | 'fit-impossible' | 'threshold-unreachable'
> {}
