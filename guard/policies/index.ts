/** Policies that are ready to use, by the names that `--policy` knows them by. */
import type { Policy } from '../policy.ts';
import { defaultPolicy } from './default.ts';
import { hazardsPolicy } from './hazards.ts';
import { openAiModerationPolicy } from './openai-moderation.ts';

export const builtInPolicies = {
  default: defaultPolicy,
  'openai-moderation': openAiModerationPolicy,
  hazards: hazardsPolicy,
} as const satisfies Readonly<Record<string, Policy>>;

export { defaultPolicy, hazardsPolicy, openAiModerationPolicy };
