import { Worker } from 'node:worker_threads';
import type { StartThread } from '../wasm/threads.ts';

const prelude = `
const { parentPort } = require('node:worker_threads');
const receive = (take) => parentPort.on('message', take);
const send = (message) => parentPort.postMessage(message);
`;

/** Starts threads in Node.js. */
export const startWorker: StartThread = (script, on) => {
  // Not what this process was started with: loaders and debuggers are no business of a kernel's.
  const worker = new Worker(prelude + script, { eval: true, execArgv: [] });
  worker.on('message', on.message);
  worker.on('error', (error) => on.failure(error.message));
  worker.on('exit', (code) => on.failure(`exit code ${code}`));
  return {
    post: (message) => worker.postMessage(message),
    hold: (busy) => (busy ? worker.ref() : worker.unref()),
    terminate: async () => void (await worker.terminate()),
  };
};
