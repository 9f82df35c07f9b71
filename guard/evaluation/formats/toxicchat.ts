import type { Format } from './format.ts';

/**
 * ToxicChat (arXiv 2310.17389; lmsys/toxic-chat), exported as JSON Lines: `{"conv_id", "user_input", "model_output",
 * "human_annotation", "toxicity", "jailbreaking", "openai_moderation"}`. Both labels are about the user's message, and
 * `toxicity` is the one that is evaluated; `jailbreaking` may be mapped to a category.
 */
export const toxicChat: Format = {
  vocabulary: ['jailbreaking'],
  read(fields) {
    const jailbreaking = fields.label('jailbreaking');
    return {
      id: fields.id('conv_id'),
      messages: fields.text('user_input'),
      role: 'user',
      unsafe: fields.label('toxicity'),
      labels: new Map(jailbreaking === null ? [] : [['jailbreaking', jailbreaking]]),
      others: null,
    };
  },
};
