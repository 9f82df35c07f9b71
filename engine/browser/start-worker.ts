import type { StartThread } from '../wasm/threads.ts';

const prelude = 'const receive = (take) => { onmessage = ({ data }) => take(data); }; const send = postMessage;\n';

/** Starts threads in a page. */
export const startWorker: StartThread = (script, on) => {
  const address = URL.createObjectURL(new Blob([prelude, script], { type: 'text/javascript' }));
  const worker = new Worker(address);
  worker.onmessage = ({ data }) => on.message(data);
  worker.onerror = ({ message }) =>
    // Of a worker that does not even start nothing more is told.
    on.failure(message || "it was not started; does the page's Content-Security-Policy have worker-src blob:?");
  URL.revokeObjectURL(address);
  return {
    post: (message) => worker.postMessage(message),
    hold: () => {},
    // What it is computing stops soon; a page is not told when.
    terminate: async () => worker.terminate(),
  };
};
