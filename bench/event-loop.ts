/** Milliseconds between two looks. */
const interval = 1;

/**
 * Watches the event loop of this process with a timer until the returned function is called, which tells the longest
 * time in milliseconds by which a look was late: what ran in one piece meanwhile, or kept the thread off its core, and
 * nobody else could be served. The pieces before the first look and after the last count too, which those of
 * `monitorEventLoopDelay` in `node:perf_hooks` do not.
 */
export function watchEventLoop(): () => number {
  let longest = 0;
  let last = performance.now();
  const look = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last - interval);
    last = now;
  };
  const timer = setInterval(look, interval);
  return () => {
    clearInterval(timer);
    look();
    return longest;
  };
}
