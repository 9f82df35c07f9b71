/** Milliseconds that work may keep the event loop before others have their turn. */
const longestTurn = 2;

/** Resolves once the event loop has gone round: timers, messages and what a user did were seen to. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') {
      // The first may come before timers and input, at the end of the turn that it is asked for in.
      setImmediate(() => setImmediate(resolve));
      return;
    }
    // In a page, where timers that follow one another are held back.
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(undefined);
  });
}

/**
 * Long work in pieces that leaves the event loop free: no piece begins once those before it have kept the event loop for
 * some milliseconds; it waits until the event loop has gone round. Who shares one object shares its time.
 */
export class Pace {
  /** When work began in this turn of the event loop. */
  #began: number | undefined;

  /** Does a piece of work, at once where there is time left. */
  async do<T>(piece: () => T): Promise<T> {
    // Looked at right before the work: of all who waited for the next turn only the first may find time in it.
    while (this.#isLate()) await nextTurn();
    return piece();
  }

  #isLate(): boolean {
    const now = performance.now();
    if (this.#began === undefined) {
      this.#began = now;
      nextTurn().then(() => {
        this.#began = undefined;
      });
    }
    return now - this.#began >= longestTurn;
  }
}
