import type { Format } from './format.ts';
import { anyOf, type Label } from './label.ts';

const vocabulary = ['S', 'H', 'V', 'HR', 'SH', 'S3', 'H2', 'V2'];

/**
 * The evaluation set of arXiv 2208.03274 (openai/moderation-api-release): `{"prompt", "S"?, "H"?, ...}`, each label 1, 0
 * or absent where it is not known: sexual, hate, violence, harassment, self-harm, sexual/minors, hate/threatening,
 * violence/graphic. A text is unsafe where any holds, and safe only where all are known not to.
 */
export const openaiModeration: Format = {
  vocabulary,
  read(fields) {
    const values = vocabulary.map((name) => [name, fields.label(name)] as const);
    return {
      id: fields.id('id'),
      messages: fields.text('prompt'),
      role: 'user',
      unsafe: anyOf(values.map(([, value]) => value)),
      labels: new Map(values.filter((entry): entry is [string, Label] => entry[1] !== null)),
      others: null,
    };
  },
};
