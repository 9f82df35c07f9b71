import { expect } from 'vitest';
import { parseLlamaConfig } from '../../engine/config.ts';
import { ModelError } from '../../engine/errors.ts';
import { huggingFaceConfig, smallConfig } from './model-files.ts';

/** A config.json that is right in every field. */
export const valid = huggingFaceConfig(smallConfig());
/** A `rope_scaling` as Llama 3.1 has it. */
export const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};

/** What is read of the valid file with some fields changed. */
export function parse(changes: Record<string, unknown>) {
  // As a file holds it: what is undefined is absent.
  return parseLlamaConfig(JSON.parse(JSON.stringify({ ...valid, ...changes })), 'config.json');
}

/** The error that comes of an action. */
export function errorOf(action: () => unknown): ModelError {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ModelError);
    return error as ModelError;
  }
  throw new Error('A ModelError was expected, but nothing was thrown.');
}
