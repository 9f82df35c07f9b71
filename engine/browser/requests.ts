import { reasonOf } from '../errors.ts';

export interface RequestOptions {
  /** Makes the requests: `fetch` of the page unless another one is given, to add headers, say, or to look into a cache. */
  readonly fetch?: typeof globalThis.fetch;
  /** Ends what is being fetched. */
  readonly signal?: AbortSignal;
}

/** Some bytes of a file, `end` not among them. */
interface Range {
  readonly begin: number;
  readonly end: number;
}

/** Milliseconds before a part of a file is asked for again. */
const pauses = [250, 1000, 4000];

/**
 * Bytes of parts that browsers are told not to keep: parts of one file that they may keep they ask for one after another,
 * and of so few each would cost a turn to the server and back.
 */
const smallBytes = 64 * 1024;

/** Requests for the files of one folder. Errors say why a file cannot be had, as the end of a sentence. */
export class Requests {
  readonly #fetch: typeof globalThis.fetch;
  readonly #signal: AbortSignal | undefined;
  /** Whether a file of this folder has come: then the folder as such may be read. */
  #welcome = false;

  constructor({ fetch = globalThis.fetch, signal }: RequestOptions) {
    // Browsers want to be called as themselves.
    this.#fetch = (...request) => fetch(...request);
    this.#signal = signal;
  }

  /**
   * A file, or its part where the server sends parts; undefined where there is no such file. What the browser has kept
   * serves where the server says that it is still so: its parts must be of one version with those that are not kept.
   */
  async get(url: string, range?: Range): Promise<Response | undefined> {
    const response = await this.#ask(url, { range, cache: 'no-cache' });
    // Stores of objects that do not let everybody list them answer 403 for what is not there.
    const isAbsent = [404, 410].includes(response.status) || (response.status === 403 && this.#welcome);
    // Servers of single-page applications answer an address that they do not know with the application.
    const isPage = response.ok && /^text\/html\b/.test(response.headers.get('content-type') ?? '');
    if (isAbsent || isPage) {
      await response.body?.cancel();
      return undefined;
    }
    if (!response.ok && response.status !== 416) throw await refusal(response);
    this.#welcome = true;
    return response;
  }

  /** A part of a file that is known to be there; asked for again where the connection or the server fails. */
  async part(url: string, range: Range): Promise<Response> {
    const wanted = { range, cache: range.end - range.begin <= smallBytes ? 'no-store' : 'default' } as const;
    for (const pause of pauses) {
      try {
        const response = await this.#ask(url, wanted);
        if (response.status === 206) return response;
        if (response.status !== 429 && response.status < 500) throw await refusal(response, 'with a part of it');
        await response.body?.cancel();
      } catch (error) {
        if (!(error instanceof Unreachable)) throw error;
      }
      await this.#wait(pause);
    }
    const response = await this.#ask(url, wanted);
    if (response.status === 206) return response;
    throw await refusal(response, 'with a part of it');
  }

  async #ask(
    url: string,
    { range, cache }: { readonly range: Range | undefined; readonly cache: RequestCache },
  ): Promise<Response> {
    const headers = range ? { headers: { range: `bytes=${range.begin}-${range.end - 1}` } } : {};
    const signal = this.#signal ? { signal: this.#signal } : {};
    try {
      return await this.#fetch(url, { ...headers, cache, ...signal });
    } catch (cause) {
      this.#signal?.throwIfAborted();
      const isForeign = globalThis.location && new URL(url).origin !== globalThis.location.origin;
      const advice = isForeign ? '; does its server allow pages of other origins (CORS)?' : '';
      throw new Unreachable(`it cannot be fetched (${reasonOf(cause)}${advice})`, { cause });
    }
  }

  async #wait(milliseconds: number): Promise<void> {
    const signal = this.#signal;
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds);
      signal?.addEventListener('abort', end);
    });
    signal?.throwIfAborted();
  }
}

/** A server that cannot be reached: the next request may find it again. */
class Unreachable extends Error {}

/** Why an answer is of no use. */
async function refusal(response: Response, expected = 'with it'): Promise<Error> {
  await response.body?.cancel();
  const answer = `${response.status} ${response.statusText}`.trim();
  return new Error(`the server must answer ${expected}, but answers ${answer}`);
}
