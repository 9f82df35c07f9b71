/** What the guard's faces for Node.js and for a page have in common. */
export { DeviceError, ModelError, SessionError } from '../engine/index.ts';
export { ContractError, LlamaGuardError } from '../kernels/errors.ts';
export { type PromptPart, TokenizerError } from '../tokenizer/index.ts';
export { type Calibration, parseCalibration } from './calibration/calibration.ts';
export { parseConversation, parseJsonLine } from './conversation.ts';
export {
  CalibrationError,
  ConversationError,
  EvaluationError,
  FormatError,
  OptionError,
  PolicyError,
} from './errors.ts';
export {
  buildInstruction,
  formatNamed,
  type PromptFormat,
  promptFormats,
} from './formats/index.ts';
export { type MessageSuspicion, neutralise, type Suspicion } from './hostile/index.ts';
export { type Hashes, hashesOf, instructionHash, policyHash } from './identity.ts';
export type { Frame, Instruction } from './instruction.ts';
export type { Message, Role, Turn } from './messages.ts';
export type {
  CategoryMode,
  CheckAnswer,
  CheckManyOptions,
  CheckOptions,
  CheckRequest,
  Conversation,
  LoadOptions,
} from './options.ts';
export type { OrderSpread, Spread } from './orders.ts';
export { builtInPolicies, defaultPolicy, hazardsPolicy, openAiModerationPolicy } from './policies/index.ts';
export {
  type Action,
  atDetail,
  type Category,
  type CategoryExample,
  type Detail,
  excludeCategories,
  type Policy,
  parsePolicy,
  selectCategories,
} from './policy.ts';
export { type Finding, lintPolicy, type TokenBudget } from './policy-lint.ts';
export type { Assessment, CategoryScore, Disguise, Excerpt, Score } from './score.ts';
export type { Crossing, GuardStream, StreamAssessment, StreamOptions } from './stream.ts';
export { parseVerdict, type Verdict } from './verdict.ts';
