import type { Policy } from './policy.ts';

/** Why a completion is no verdict. */
export type IndeterminateReason =
  /** It begins with neither `safe` nor `unsafe`, or goes on after `safe`. */
  | 'not-a-verdict'
  /** `unsafe`, and no list of categories on a second line. */
  | 'no-categories'
  /** The list names something that the policy does not. */
  | 'unknown-category'
  /** The list names a category twice. */
  | 'repeated-category';

/** What the model wrote, understood or not. A completion that is not understood is never taken for `safe`. */
export type Verdict =
  | { readonly verdict: 'safe' }
  /** The codes in the order in which the model wrote them, and which of several unsafe verdicts it was. */
  | { readonly verdict: 'unsafe'; readonly categories: readonly string[]; readonly label?: string }
  | { readonly verdict: 'indeterminate'; readonly text: string; readonly reason: IndeterminateReason };

/**
 * Reads a completion strictly: `safe`, or `unsafe`, a line feed and the policy's codes with single commas between them.
 * One leading space is allowed, since the first piece is `▁safe` or `▁unsafe`; nothing else is.
 *
 * @param text the completion without the end-of-sequence token
 * @param lead what may stand before the verdict
 */
export function parseVerdict(text: string, policy: Pick<Policy, 'categories'>, lead = /^ /): Verdict {
  const indeterminate = (reason: IndeterminateReason): Verdict => ({ verdict: 'indeterminate', text, reason });
  const completion = text.replace(lead, '');
  if (completion === 'safe') return { verdict: 'safe' };
  if (completion === 'unsafe' || completion === 'unsafe\n') return indeterminate('no-categories');
  if (!completion.startsWith('unsafe\n')) return indeterminate('not-a-verdict');

  const known = new Set(policy.categories.map(({ code }) => code));
  const categories = completion.slice('unsafe\n'.length).split(',');
  if (!categories.every((code) => known.has(code))) return indeterminate('unknown-category');
  if (new Set(categories).size < categories.length) return indeterminate('repeated-category');
  return { verdict: 'unsafe', categories };
}
