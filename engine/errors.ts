import { LlamaGuardError } from '../kernels/errors.ts';

/**
 * A model or adapter folder that cannot be used: something is missing, malformed, of another kind or does not fit. With
 * `read-failed` a disk or a server failed midway: the folder may serve another time. `not-a-number` comes with a request:
 * what the weights make of it is no number.
 */
export class ModelError extends LlamaGuardError<
  | 'model-not-found'
  | 'config-invalid'
  | 'architecture-unsupported'
  | 'adapter-unsupported'
  | 'safetensors-invalid'
  | 'tensor-missing'
  | 'tensor-mismatch'
  | 'dtype-unsupported'
  | 'read-failed'
  | 'not-a-number'
> {}

/** A device that cannot be had, cannot hold what it must, or was lost. */
export class DeviceError extends LlamaGuardError<
  'device-unavailable' | 'device-lost' | 'out-of-memory' | 'device-failure'
> {}

/** A request that the engine cannot serve: too many tokens, an unknown id, something already disposed. */
export class SessionError extends LlamaGuardError<
  'context-overflow' | 'token-out-of-range' | 'cache-full' | 'context-lost' | 'disposed' | 'invalid-argument'
> {}

/** Why a file cannot be used, as the end of a sentence. */
export function reasonOf(cause: unknown): string {
  const message = cause instanceof Error ? cause.message : String(cause);
  return cause instanceof SyntaxError ? `it must be JSON, but ${message}` : message;
}
