import * as z from 'zod';
import { policySchema } from '../policy.ts';

/**
 * The JSON Schema of a policy file, for editors: `"$schema": "./policy.schema.json"` at its beginning. What a schema cannot
 * say (codes that are told apart, single lines, no markers of the frame) is checked when the policy is read.
 */
export function policyJsonSchema(): object {
  return { title: 'A safety policy of llama-guard-webgpu', ...z.toJSONSchema(policySchema, { io: 'input' }) };
}
