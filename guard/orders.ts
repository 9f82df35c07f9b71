/**
 * What the order of the categories does to a score: the model reads them one after another, and the same policy shuffled
 * may be judged by differently. Several orders, averaged, take a part of that noise out and show the rest.
 */
import { seededRandom } from '../kernels/random.ts';
import type { Policy } from './policy.ts';

/** How far the orders disagree. */
export interface Spread {
  readonly min: number;
  readonly max: number;
  /** Standard deviation over the orders, of the population. */
  readonly deviation: number;
}

export interface OrderSpread {
  /** Orders that were read; fewer than asked for where there are not so many. */
  readonly count: number;
  readonly score: Spread;
  /** By category, in the policy's order. */
  readonly categories: readonly ({ readonly code: string } & Spread)[];
}

/**
 * The policy in `count` different orders of its categories: first as it is, then as a seeded generator shuffles it, the
 * same ones every time.
 */
export function categoryOrders(policy: Policy, count: number): Policy[] {
  const { categories } = policy;
  const random = seededRandom(1);
  const orders = new Map<string, Policy>();
  const most = Math.min(count, factorialUpTo(categories.length, count));
  let order = categories;
  while (orders.size < most) {
    orders.set(order.map(({ code }) => code).join(' '), { ...policy, categories: order });
    order = shuffled(categories, random);
  }
  return [...orders.values()];
}

/** The mean and the spread of some numbers. */
export function spreadOf(values: readonly number[]): { readonly mean: number; readonly spread: Spread } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
  return { mean, spread: { min: Math.min(...values), max: Math.max(...values), deviation: Math.sqrt(variance) } };
}

/** n!, or `limit` where it is more. */
function factorialUpTo(n: number, limit: number): number {
  let product = 1;
  for (let i = 2; i <= n && product < limit; i++) product *= i;
  return Math.min(product, limit);
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const order = [...items];
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
