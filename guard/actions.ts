import { type Action, actions, type Policy } from './policy.ts';
import type { CategoryScore } from './score.ts';

/** Whether a policy says by category from when it is violated, or what to do then. */
export const hasRules = ({ categories }: Policy): boolean =>
  categories.some(({ threshold, action }) => threshold !== undefined || action !== undefined);

/**
 * What a policy with rules says to do: the strictest action of the categories that are violated. Where none is, a
 * conversation that is unsafe as a whole meets the strictest action that the policy has.
 */
export function actionOf(policy: Policy, unsafe: boolean, scores: readonly CategoryScore[]): Action {
  const violated = new Set(scores.filter((category) => category.violated).map(({ code }) => code));
  const meant = policy.categories.filter(({ code }) => violated.has(code));
  const considered = meant.length > 0 ? meant : unsafe ? policy.categories : [];
  if (considered.length === 0) return 'allow';
  return actions.find((action) => considered.some((category) => (category.action ?? 'block') === action)) ?? 'block';
}
