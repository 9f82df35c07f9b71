import type { Format } from './format.ts';
import { verdictAndNames } from './generic.ts';

/**
 * The lines that the validation notebook of Llama Guard (llama-recipes) reads: `{"prompt", "generation"?, "label": "good"
 * | "bad", "unsafe_content"?: [codes]}`. Where prompts are judged the generation is not shown.
 */
export const llamaGuard: Format = {
  read(fields, role) {
    const prompt = { role: 'user', content: fields.text('prompt') };
    const generation = role === 'user' ? undefined : fields.optionalText('generation');
    return {
      id: fields.id('id'),
      messages: generation === undefined ? [prompt] : [prompt, { role: 'assistant', content: generation }],
      ...verdictAndNames(fields, fields.word('label', { good: 0, bad: 1 }), fields.names('unsafe_content')),
    };
  },
};
