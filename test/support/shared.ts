import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = (name: string) => fileURLToPath(new URL(`../../../shared/${name}`, import.meta.url));

/** What some tests read that cannot be in the repository, for its size or its licence: a folder beside the project. */
export const shared = {
  llama2Tokenizer: path('tokenizers/llama2/tokenizer.model'),
  moderationSamples: path('data/openai-moderation/samples-1680.jsonl.gz'),
  moderationHeldOut: path('data/openai-moderation/heldout.jsonl'),
};

/** Those that are not there; a run of tests says which, since what reads them is left out. */
export const missing = (): string[] => Object.values(shared).filter((file) => !existsSync(file));
