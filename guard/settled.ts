/** `Promise.all` that waits for all even where one fails, so that nothing goes on behind its caller's back. */
export async function settled<T extends readonly unknown[] | []>(
  promises: T,
): Promise<{ -readonly [I in keyof T]: Awaited<T[I]> }> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}
