import { defaultPolicy, type Guard, type Policy } from '../guard/index.ts';

/** The model's own policy, the default one, one of a single category and one of as many as Llama Guard 3 has. */
export const policies = {
  "the model's own": undefined,
  'the default': defaultPolicy,
  '1 category': policyOf(1),
  '14 categories': policyOf(14),
} as const satisfies Readonly<Record<string, Policy | undefined>>;
export type PolicyName = keyof typeof policies;

export const messageLengths = [10, 30, 100, 400] as const;
export const batchSizes = [1, 2, 4, 8, 16, 32, 64] as const;

/** A policy of `count` categories, made of the default one's. */
function policyOf(count: number): Policy {
  const { categories } = defaultPolicy;
  return {
    categories: Array.from({ length: count }, (_, i) => {
      const category = categories[i % categories.length]!;
      const round = Math.floor(i / categories.length);
      return {
        ...category,
        code: `O${i + 1}`,
        name: round === 0 ? category.name : `${category.name}, part ${round + 1}`,
      };
    }),
  };
}

const words =
  'my neighbour asked how to water young tomato plants in the garden when the summer is dry and whether the soil should rest in winter'.split(
    ' ',
  );

/** A harmless message of `tokens` tokens, or a few more; another for every `index`, apart from its second word on. */
export function messageOf({ tokenizer }: Guard, tokens: number, index = 0): string {
  let message = `Number ${index}:`;
  for (let i = index; ; ) {
    const missing = tokens - tokenizer.count(message);
    if (missing <= 0) return message;
    // A word has two tokens or so; the last ones are added one by one.
    for (const end = i + Math.ceil(missing / 4); i < end; i++) message += ` ${words[i % words.length]}`;
  }
}
