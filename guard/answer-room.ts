import type { AnswerTokens } from './answer.ts';
import type { AnswerGrammar } from './formats/index.ts';
import { WrittenList } from './joint.ts';
import type { Policy } from './policy.ts';

/** More than most verdicts take. */
const verdictTokens = 64;

/** Tokens that are kept free behind a prompt for the written answer: more where a verdict with the longest list takes more. */
export function answerRoom(
  { labels, list }: AnswerGrammar,
  tokens: Pick<AnswerTokens, 'write'>,
  policy: Policy,
): number {
  const unsafe = labels.flatMap(({ means, spellings }) => (means === 'unsafe' ? spellings : []));
  const lists = list ? unsafe.map((text) => new WrittenList(list, text, tokens, policy).mostTokens) : [];
  return Math.max(verdictTokens, ...lists);
}
