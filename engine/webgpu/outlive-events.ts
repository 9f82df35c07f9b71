/**
 * Keeps an instance of Dawn until it has looked for events for the last time: it does so once more in a turn to come, and
 * the process crashes where the instance was collected by then.
 */
export const outliveEvents = (gpu: GPU): Promise<void> =>
  // The timer holds its argument; it comes after whatever this turn had planned for the next.
  new Promise((resolve) => setTimeout((_kept: GPU) => resolve(), 0, gpu));
