/**
 * Runs a task on each item, at most `width` at a time, and yields the results in the order of the items, each as soon
 * as it and those before it are there. No more than `width` items are taken ahead of the consumer.
 *
 * A task that fails, or a source that does, ends the iteration with its error, after the results before it. When the
 * iteration ends early, for this or because the consumer has had enough, the signal of the tasks under way is aborted
 * and they are waited for.
 */
export async function* mapInOrder<T, R>(
  source: AsyncIterable<T> | Iterable<T>,
  width: number,
  task: (item: T, signal: AbortSignal) => Promise<R>,
): AsyncGenerator<R, void, void> {
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  const stop = new AbortController();
  const started: { readonly result: Promise<R>; settled: boolean }[] = [];
  /** The item that the source is being asked for; never rejects. */
  let pull: Promise<void> | undefined;
  let ended = false;
  let failure: { readonly error: unknown } | undefined;

  const take = (item: IteratorResult<T>) => {
    if (item.done) {
      ended = true;
      return;
    }
    const entry = { result: task(item.value, stop.signal), settled: false };
    const settle = () => {
      entry.settled = true;
    };
    entry.result.then(settle, settle);
    started.push(entry);
  };
  const pullNext = () => {
    const next = iterator.next();
    if (!(next instanceof Promise)) {
      take(next);
      return;
    }
    pull = next
      .then(take, (error) => {
        ended = true;
        failure = { error };
      })
      .finally(() => {
        pull = undefined;
      });
  };

  try {
    for (;;) {
      while (!ended && !pull && started.length < width) pullNext();
      const head = started[0];
      if (head?.settled || (head && !pull)) {
        const result = await head.result;
        started.shift();
        yield result;
      } else if (pull) {
        await Promise.race([pull, ...(head ? [head.result.catch(() => {})] : [])]);
      } else if (failure) {
        throw failure.error;
      } else {
        return;
      }
    }
  } finally {
    stop.abort();
    await Promise.allSettled(started.map(({ result }) => result));
    if (!ended) {
      const returned = Promise.resolve(iterator.return?.());
      // A source that is being asked for an item may take its time to hear that no more are wanted.
      if (pull) returned.catch(() => {});
      else await returned;
    }
  }
}
