/** Whether something holds: yes or no. What is not known is `null`, or absent from a map; it is never 0. */
export type Label = 0 | 1;

/** Whether any of several labels holds: known as soon as one does, or all are known not to. */
export function anyOf(labels: readonly (Label | null)[]): Label | null {
  if (labels.includes(1)) return 1;
  return labels.includes(null) ? null : 0;
}
