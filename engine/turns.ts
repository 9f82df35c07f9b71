/** Milliseconds that work may keep the event loop before others have their turn. */
const longestTurn = 3;

/** Resolves once the event loop has gone round: timers, messages and what a user did were seen to. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === 'function') {
      setImmediate(resolve);
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
 * Long work in pieces that leaves the event loop free: between two pieces, whoever does it looks whether a turn is `over`
 * and then waits for the `next`. Several that share one object share its turns, in the order in which they came to wait.
 */
export class Turns {
  /** When work began in this turn of the event loop. */
  #began: number | undefined;

  get over(): boolean {
    const now = performance.now();
    if (this.#began === undefined) {
      this.#began = now;
      nextTurn().then(() => {
        this.#began = undefined;
      });
    }
    return now - this.#began >= longestTurn;
  }

  /** Waits for a turn in which there is time left, at once where this one has some. */
  async next(): Promise<void> {
    while (this.over) await nextTurn();
  }
}
