import { DeviceError } from './errors.ts';
import { formatBytes } from './format.ts';

/** What lives in a backend's memory. */
export interface Allocation {
  readonly label: string;
  readonly size: number;
}

/**
 * The error of an allocation that exceeds the budget: it names what takes most, layers together. `bound` says why the
 * budget cannot be raised, where it cannot.
 */
export function outOfMemory(
  { label, size }: Allocation,
  budget: number,
  live: Iterable<Allocation>,
  bound?: string,
): DeviceError {
  const byKind = new Map<string, number>();
  let used = 0;
  for (const each of live) {
    const kind = each.label.replace(/\d+/g, 'N');
    byKind.set(kind, (byKind.get(kind) ?? 0) + each.size);
    used += each.size;
  }
  const largest = [...byKind]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([kind, bytes]) => `'${kind}' ${formatBytes(bytes)}`);
  return new DeviceError(
    'out-of-memory',
    `'${label}' needs ${formatBytes(size)} on top of ${formatBytes(used)} in use, but the budget is ` +
      `${formatBytes(budget)}${bound ? `, ${bound}` : ''}. ` +
      (largest.length > 0 ? `Most is taken by ${largest.join(', ')}. ` : '') +
      `Use a smaller dtype (q8, q4), a smaller key-value cache or ${bound ? 'another device' : 'a larger memory budget'}.`,
  );
}
