/**
 * The part of a page's `Worker` that a library for pages needs of it in Node.js, where the global is missing: a module
 * at a blob URL, messages both ways.
 */
import { resolveObjectURL } from 'node:buffer';
import { Worker as Thread } from 'node:worker_threads';

const globals = `
  const { parentPort } = require('node:worker_threads');
  globalThis.self = globalThis;
  globalThis.postMessage = (message) => parentPort.postMessage(message);
  parentPort.on('message', (data) => self.onmessage({ data }));
`;

export class WebWorker {
  onmessage: ((event: { readonly data: unknown }) => void) | undefined;
  onerror: ((error: Error) => void) | undefined;
  readonly #thread: Promise<Thread>;

  constructor(url: string) {
    this.#thread = this.#start(url);
  }

  postMessage(message: unknown): void {
    void this.#thread.then((thread) => thread.postMessage(message));
  }

  async #start(url: string): Promise<Thread> {
    const thread = new Thread(globals + (await resolveObjectURL(url)!.text()), { eval: true });
    thread.on('message', (data) => this.onmessage?.({ data }));
    thread.on('error', (error: Error) => this.onerror?.(error));
    return thread;
  }
}
