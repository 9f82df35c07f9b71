import type { Guard } from '../guard.ts';
import type { Message, Role } from '../messages.ts';
import type { CategoryMode } from '../options.ts';
import { contentFreeTexts } from './contextual.ts';
import type { ContentFreeAnswer } from './fit.ts';

/** A conversation that says nothing, and in which a role spoke last. */
function contentFree(role: Role, text: string): Message[] {
  const asked: Message = { role: 'user', content: text };
  return role === 'user' ? [asked] : [asked, { role: 'agent', content: text }];
}

/** What a guard says of texts that say nothing: what contextual calibration is fitted on. */
export async function measureContentFree(
  guard: Pick<Guard, 'check'>,
  roles: readonly Role[],
  categories: CategoryMode,
): Promise<ContentFreeAnswer[]> {
  const asked = roles.flatMap((role) => contentFreeTexts.map((text) => ({ role, text })));
  return Promise.all(
    asked.map(async ({ role, text }) => {
      const assessment = await guard.check(contentFree(role, text), { role, categories });
      const byCode = assessment.categories.map(({ code, score }) => [code, Math.min(score, 1)] as const);
      return { role, text, score: assessment.score, categoryScores: Object.fromEntries(byCode) };
    }),
  );
}
