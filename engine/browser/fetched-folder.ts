import { quote } from '../../kernels/json.ts';
import { reasonOf } from '../errors.ts';
import { type Folder, notFound, tooLarge } from '../folder.ts';
import type { ByteFile } from '../safetensors/source.ts';
import { blobFile } from './blob-file.ts';
import { type RequestOptions, Requests } from './requests.ts';

/** Tells of a file that is downloaded as a whole before it is read, where a server sends no parts of files. */
export type OnDownload = (progress: {
  readonly file: string;
  readonly loadedBytes: number;
  /** Unknown where the server does not tell. */
  readonly totalBytes: number | undefined;
}) => void;

export interface FetchedFolderOptions extends RequestOptions {
  readonly onDownload?: OnDownload;
}

/** What is fetched of a weights file when it is opened: its header, of nearly every model. */
const headBytes = 256 * 1024;

/**
 * A folder behind a URL; a query, as of signed addresses, goes with each file. Files are asked for by name, since servers
 * do not list them.
 *
 * Small files are fetched once and kept as long as the folder. Weights are fetched in ranges, so that no more than a few
 * chunks of them are ever in memory; where the server does not send ranges, or hides from a page of another origin how
 * long the file is, it is downloaded into a blob, which browsers keep on disk where it is large. A file that changes on the
 * server while it is read fails to be read, where the server shows its `ETag` or `Last-Modified`.
 *
 * @throws ModelError `model-not-found` where `url` is no address
 */
export function fetchedFolder(url: string | URL, options: FetchedFolderOptions = {}): Folder {
  const address = addressOf(url);
  const requests = new Requests(options);
  const kept = new Map<string, Promise<Uint8Array | undefined>>();
  const locate = (name: string) => {
    const file = new URL(address);
    file.pathname = `${address.pathname.replace(/\/$/, '')}/${encodeURIComponent(name)}`;
    return file.href;
  };
  return {
    name: nameOf(address),
    location: address.href,
    locate,
    list: async () => [],
    read: (name, maxBytes) => {
      const earlier = kept.get(name);
      if (earlier) return earlier;
      const bytes = fetchWhole(requests, locate(name), maxBytes);
      kept.set(name, bytes);
      // What failed is asked for again.
      bytes.catch(() => kept.delete(name));
      return bytes;
    },
    open: (name) => openFetched(requests, locate(name), options.onDownload),
  };
}

function addressOf(url: string | URL): URL {
  try {
    return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  } catch (cause) {
    throw notFound(`The address of a model folder must be a URL, but is ${quote(String(url))}.`, { cause });
  }
}

/** The last part of the path; of a model hub's `OWNER/NAME/resolve/REVISION` the name. */
function nameOf({ pathname, host }: URL): string {
  const parts = pathname.split('/').filter(Boolean);
  const part = (parts.at(-2) === 'resolve' ? parts.at(-3) : parts.at(-1)) ?? host;
  try {
    return decodeURIComponent(part);
  } catch {
    // A path may have a '%' of its own.
    return part;
  }
}

async function fetchWhole(requests: Requests, url: string, maxBytes: number): Promise<Uint8Array | undefined> {
  const response = await requests.get(url);
  if (!response) return undefined;
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of chunksOf(response)) {
    bytes += part.length;
    if (bytes > maxBytes) throw tooLarge(undefined, maxBytes);
    parts.push(part);
  }
  return new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

async function openFetched(
  requests: Requests,
  url: string,
  onDownload: OnDownload | undefined,
): Promise<ByteFile | undefined> {
  const response = await requests.get(url, { begin: 0, end: headBytes });
  if (!response) return undefined;
  // What an empty file has no part of.
  if (response.status === 416) return blobFile(url, new Blob());
  const part = response.status === 206 ? partOf(response) : undefined;
  if (part?.begin === 0) {
    const head = new Uint8Array(Math.min(part.size, headBytes));
    const version = versionOf(response);
    return rangedFile(requests, { url, size: part.size, version, head: head.subarray(0, await fill(head, response)) });
  }
  const whole = response.status === 206 ? await requests.get(url) : response;
  return whole && blobFile(url, await download(whole, url, onDownload));
}

/** Where a part begins that came, and how long its file is; undefined where the server does not tell, or hides it. */
function partOf(response: Response): { readonly begin: number; readonly size: number } | undefined {
  const [, begin, size] = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
  return size === undefined ? undefined : { begin: Number(begin), size: Number(size) };
}

/** What tells a file from what it was before; null where the server does not tell, or hides it from other origins. */
interface Version {
  /** Without the mark of a weak one, which those between the server and here may set. */
  readonly etag: string | null;
  readonly lastModified: string | null;
}

const versionOf = ({ headers }: Response): Version => ({
  etag: headers.get('etag')?.replace(/^W\//, '') ?? null,
  lastModified: headers.get('last-modified'),
});

/** How versions differ, in words; undefined where they do not, or nothing tells. The tag decides (RFC 9110, 13.2.2). */
function changeOf(then: Version, now: Version): string | undefined {
  const byTag = then.etag !== null && now.etag !== null;
  const [name, was, is] = byTag
    ? ['ETag', then.etag, now.etag]
    : ['Last-Modified', then.lastModified, now.lastModified];
  return was === null || is === null || was === is ? undefined : `${name} ${was} then, ${is} now`;
}

interface RangedFile {
  readonly url: string;
  readonly size: number;
  readonly version: Version;
  readonly head: Uint8Array;
}

/** The beginning is at hand, all else is fetched as it is read, and must be of the same version. */
function rangedFile(requests: Requests, { url, size, version, head }: RangedFile): ByteFile {
  return {
    name: url,
    size,
    read: async (target, position) => {
      const end = Math.min(size, position + target.length);
      if (end <= position) return 0;
      if (end <= head.length) {
        target.set(head.subarray(position, end));
        return end - position;
      }
      const response = await requests.part(url, { begin: position, end });
      const part = partOf(response);
      if (part?.begin !== position || part.size !== size) {
        await response.body?.cancel();
        const came = part ? `the part from byte ${part.begin} of ${part.size}` : 'one that it does not tell of';
        throw new Error(`the server must send the part from byte ${position} of ${size}, but sent ${came}`);
      }
      // Compared here, since an `If-Match` would need the server's leave (CORS).
      const change = changeOf(version, versionOf(response));
      if (change) {
        await response.body?.cancel();
        throw new Error(`the file must stay as it was when it was opened, but has changed (${change}); open it again`);
      }
      return fill(target.subarray(0, end - position), response);
    },
    close: async () => {},
  };
}

/** Puts what comes into `target`. Of a connection that breaks off, what came before: the rest can be asked for. */
async function fill(target: Uint8Array, response: Response): Promise<number> {
  let done = 0;
  try {
    for await (const part of chunksOf(response)) {
      const wanted = part.subarray(0, target.length - done);
      target.set(wanted, done);
      done += wanted.length;
      if (done === target.length) break;
    }
  } catch (error) {
    if (done === 0) throw error;
  }
  return done;
}

async function download(response: Response, file: string, onDownload: OnDownload | undefined): Promise<Blob> {
  const length = response.headers.get('content-length');
  // Of a compressed body it is the length before it is unpacked.
  const totalBytes = length === null || response.headers.has('content-encoding') ? undefined : Number(length);
  let loadedBytes = 0;
  const counter = new TransformStream<Uint8Array, Uint8Array>({
    transform: (part, controller) => {
      loadedBytes += part.length;
      onDownload?.({ file, loadedBytes, totalBytes });
      controller.enqueue(part);
    },
  });
  try {
    return await new Response(response.body!.pipeThrough(counter)).blob();
  } catch (cause) {
    throw new Error(`the download broke off after ${loadedBytes} bytes (${reasonOf(cause)})`, { cause });
  }
}

/** The body of a response, piece by piece; it is given up when the loop is left. */
async function* chunksOf({ body }: Response): AsyncGenerator<Uint8Array, void, void> {
  if (!body) return;
  // Not `for await`: not every browser iterates streams.
  const reader = body.getReader();
  try {
    for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
  } finally {
    await reader.cancel().catch(() => {});
  }
}
