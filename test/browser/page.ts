/** What runs in the page under test: the guard as it is published, told what to do by the test that drives the browser. */
import { watchEventLoop } from '../../bench/event-loop.ts';
import {
  type Assessment,
  type Conversation,
  fetchedFolder,
  Guard,
  LlamaGuardError,
  type ModelPlace,
  type PageLoadOptions,
  type Policy,
  type Role,
} from '../../guard/browser/index.ts';

/** A conversation of the reference. */
export interface Question {
  readonly conversation: Conversation;
  readonly role: Role;
  readonly policy?: Policy;
}

/** What the test gives for a model folder: an address, what its input was given, or the page's own files. */
export type Place = string | { readonly picked: 'files' | 'handle' };

type Options = Pick<PageLoadOptions, 'device' | 'dtype' | 'threads'>;

export interface Judged {
  readonly device: string;
  readonly reason: string;
  readonly threads: number | undefined;
  readonly isolated: boolean;
  readonly model: string;
  readonly assessments: readonly Assessment[];
  /** Bytes of weights that were loaded at each report, and all in the end. */
  readonly progress: readonly number[];
  readonly totalBytes: number | undefined;
  /** Bytes that were downloaded before they were read. */
  readonly downloaded: number;
}

/** What came of what should fail. */
export interface Failure {
  readonly isTyped: boolean;
  readonly name: string;
  readonly code: string | undefined;
  readonly message: string;
}

async function placeOf(place: Place): Promise<ModelPlace> {
  if (typeof place === 'string') return place;
  if (place.picked === 'handle') return navigator.storage.getDirectory();
  return document.querySelector('input')!.files!;
}

/** Loads a guard and asks it, one question after another. */
async function judge(place: Place, options: Options, questions: readonly Question[]): Promise<Judged> {
  const progress: number[] = [];
  let totalBytes: number | undefined;
  let downloaded = 0;
  const guard = await Guard.load(await placeOf(place), {
    ...options,
    onProgress: (report) => {
      progress.push(report.loadedBytes);
      totalBytes = report.totalBytes;
    },
    onDownload: ({ loadedBytes }) => {
      downloaded = loadedBytes;
    },
  });
  try {
    const assessments: Assessment[] = [];
    for (const { conversation, ...rest } of questions) assessments.push(await guard.check(conversation, rest));
    const { device, reason } = guard.decision;
    return {
      device: device.name,
      reason,
      threads: device.threads,
      isolated: crossOriginIsolated,
      model: guard.model,
      assessments,
      progress,
      totalBytes,
      downloaded,
    };
  } finally {
    await guard[Symbol.asyncDispose]();
  }
}

/** How long checks of which nothing is cached took in milliseconds, and how long the page stood still meanwhile, in the best of some runs. */
async function standstill(place: Place, options: Options): Promise<{ took: number; stoodStill: number }> {
  const guard = await Guard.load(await placeOf(place), options);
  let best = { took: 0, stoodStill: Number.POSITIVE_INFINITY };
  try {
    await guard.check('Hello');
    for (let run = 0; run < 5; run++) {
      // Policies that begin otherwise have no beginning in common.
      const policies = Array.from({ length: 4 }, (_, i): Policy => {
        const [first, ...others] = guard.policy.categories;
        return { ...guard.policy, categories: [{ ...first!, name: `Kind ${run} ${i}` }, ...others] };
      });
      const begin = performance.now();
      const stop = watchEventLoop();
      await Promise.all(policies.map((policy) => guard.check('How do I kill a process in Linux?', { policy })));
      const stoodStill = stop();
      if (stoodStill < best.stoodStill) best = { took: performance.now() - begin, stoodStill };
    }
    return best;
  } finally {
    await guard[Symbol.asyncDispose]();
  }
}

/** Loads, is told to stop at the first bytes of weights or before a check, and tells what came of it. */
async function abort(place: Place, when: 'loading' | 'checking'): Promise<string> {
  const stop = new AbortController();
  const onProgress = () => when === 'loading' && stop.abort(new Error('enough'));
  try {
    const guard = await Guard.load(await placeOf(place), { device: 'cpu', signal: stop.signal, onProgress });
    try {
      const checking = guard.check('How do I kill a process in Linux?', { signal: stop.signal });
      setTimeout(() => stop.abort(new Error('enough')));
      await checking;
      return 'it went on';
    } finally {
      await guard[Symbol.asyncDispose]();
    }
  } catch (error) {
    return (error as Error).message;
  }
}

/** Why a guard cannot be loaded or asked. */
async function fail(place: Place, options: Options): Promise<Failure> {
  try {
    await judge(place, options, [{ conversation: 'Hello', role: 'user' }]);
    return { isTyped: false, name: 'nothing', code: undefined, message: 'it did not fail' };
  } catch (error) {
    const { name, message } = error as Error;
    const code = error instanceof LlamaGuardError ? error.code : undefined;
    return { isTyped: error instanceof LlamaGuardError, name, code, message };
  }
}

/** Puts a model folder among the page's own files. */
async function keep(address: string, names: readonly string[]): Promise<void> {
  const folder = await navigator.storage.getDirectory();
  for (const name of names) {
    const bytes = await fetchedFolder(address).read(name, Number.POSITIVE_INFINITY);
    const writable = await (await folder.getFileHandle(name, { create: true })).createWritable();
    await writable.write(bytes as Uint8Array<ArrayBuffer>);
    await writable.close();
  }
}

/** Judges in a worker of the page. */
function judgeInWorker(...request: Parameters<typeof judge>): Promise<Judged> {
  const worker = new Worker('/worker.js', { type: 'module' });
  return new Promise<Judged>((resolve, reject) => {
    worker.onmessage = ({ data }) => ('error' in data ? reject(new Error(data.error)) : resolve(data));
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(request);
  }).finally(() => worker.terminate());
}

export const inPage = { judge, judgeInWorker, standstill, abort, fail, keep };
export type InPage = typeof inPage;
Object.assign(globalThis, { inPage });
