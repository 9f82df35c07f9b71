import type { AnswerTokens } from './answer.ts';
import type { AnswerGrammar } from './formats/index.ts';
import { WrittenList } from './joint.ts';
import type { Policy } from './policy.ts';

/** More than most verdicts take. */
const verdictTokens = 64;

/** Tokens that are kept free behind a prompt for the written answer: more where the policy's longest list takes more. */
export function answerRoom(answer: AnswerGrammar, tokens: Pick<AnswerTokens, 'write'>, policy: Policy): number {
  const { list } = answer;
  return list
    ? Math.max(verdictTokens, new WrittenList({ ...answer, list }, tokens, policy).mostTokens)
    : verdictTokens;
}
