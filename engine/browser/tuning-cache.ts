import { sha256 } from '../sha256.ts';
import type { TuningKey, TuningStore } from '../tuning.ts';

const cacheName = 'llama-guard-webgpu';

/** Never fetched: the cache files a text by the address of a request. */
const addressOf = async ({ adapter }: TuningKey): Promise<string> =>
  new URL(`/${cacheName}/tuning-${(await sha256(adapter)).slice(0, 16)}.json`, globalThis.origin).href;

/** Keeps kernel choices in the page's cache storage, which workers have too. */
export const tuningCache = (): TuningStore => ({
  locate: () => `the page's cache storage '${cacheName}'`,
  read: async (key) => {
    try {
      const cache = await caches.open(cacheName);
      return await (await cache.match(await addressOf(key)))?.text();
    } catch {
      // A page may have no storage, as one in a sandboxed frame.
      return undefined;
    }
  },
  write: async (key, text) => {
    const cache = await caches.open(cacheName);
    await cache.put(await addressOf(key), new Response(text));
  },
  warn: (message) => console.warn(message),
});
