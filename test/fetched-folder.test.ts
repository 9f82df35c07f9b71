/** Model folders behind an address: what is asked of servers, and by what error answers of no use are refused. */
import { getEventListeners } from 'node:events';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FetchedFolderOptions, fetchedFolder } from '../engine/browser/index.ts';
import { openModel, type TensorSource } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/index.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { answerFile, type FolderAnswers, type Server, serve } from './support/serve.ts';

const weights = 'model.safetensors';
const { size } = statSync(join(embeddedModel, weights));

/** What a server answers instead of a file; undefined where it sends the file. */
interface Reply {
  readonly status?: number;
  readonly contentRange?: string;
  /** Nothing where the connection is to break off, or never to be answered. */
  readonly body?: string | Uint8Array | 'break off' | 'never';
}
type Answer = (name: string, begin: number | undefined) => Reply | undefined;

let server: Server;
let answer: Answer = () => undefined;
let answers: FolderAnswers = {};
let requests: { readonly name: string; readonly begin: number | undefined }[] = [];

beforeAll(async () => {
  server = await serve(async (request, response) => {
    const name = request.url!.replace('/model/', '');
    const [, first] = /^bytes=(\d+)-/.exec(request.headers.range ?? '') ?? [];
    const begin = first === undefined ? undefined : Number(first);
    requests.push({ name, begin });
    const reply = answer(name, begin);
    if (!reply) return answerFile(request, response, { folder: embeddedModel, name }, answers);
    const { status = 200, contentRange, body } = reply;
    if (body === 'never') return;
    if (body === 'break off') response.destroy();
    else response.writeHead(status, contentRange ? { 'content-range': contentRange } : {}).end(body);
  });
});
afterAll(() => server[Symbol.asyncDispose]());

/** A folder of the server, which answers in its own way from now on. */
function folderWith(own: Answer | FolderAnswers, options: FetchedFolderOptions = {}) {
  [answer, answers] = typeof own === 'function' ? [own, {}] : [() => undefined, own];
  requests = [];
  return fetchedFolder(`${server.origin}/model`, options);
}

/** All tensors' bytes, one after another. */
async function bytesOf({ source }: { readonly source: TensorSource }): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for (const name of source.tensors.keys()) for await (const chunk of source.read(name)) chunks.push(chunk.slice());
  return Buffer.concat(chunks);
}

async function bytesOnDisk(): Promise<Buffer> {
  await using opened = await openModelFolder(embeddedModel);
  return await bytesOf(opened);
}

describe('a folder behind an address', () => {
  it.each([true, false])('gives the weights that a disk gives, from a server that sends parts: %s', async (ranges) => {
    const downloads: number[] = [];
    const onDownload: FetchedFolderOptions['onDownload'] = ({ loadedBytes, totalBytes }) => {
      downloads.push(loadedBytes / totalBytes!);
    };
    await using opened = await openModel(folderWith({ ranges }, { onDownload }));
    expect((await bytesOf(opened)).equals(await bytesOnDisk())).toBe(true);
    const asked = requests.filter(({ name }) => name === weights);
    if (ranges) {
      expect(asked.every(({ begin }) => begin !== undefined)).toBe(true);
      expect(downloads).toEqual([]);
    } else {
      expect(asked).toHaveLength(1);
      expect(downloads.at(-1)).toBe(1);
    }
  });

  it('downloads weights of which only parts come without how long they are', async () => {
    const hides: Answer = (name, begin) =>
      name === weights && begin !== undefined ? { status: 206, body: 'a part' } : undefined;
    await using opened = await openModel(folderWith(hides));
    expect((await bytesOf(opened)).equals(await bytesOnDisk())).toBe(true);
  });

  it('fetches what is small once, and again where that failed', async () => {
    let status = 503;
    const folder = folderWith(() => (status === 200 ? undefined : { status }));
    await expect(folder.read('config.json', 1e6)).rejects.toThrow('the server must answer with it, but answers 503');
    status = 200;
    const bytes = await folder.read('config.json', 1e6);
    expect(readFileSync(join(embeddedModel, 'config.json')).equals(bytes!)).toBe(true);
    await folder.read('config.json', 1e6);
    expect(requests).toHaveLength(2);
  });

  it('keeps the query of its address, and is called by its name', () => {
    const { locate } = fetchedFolder('https://a.example/x/Guard/?key=1');
    expect(locate('a b')).toBe('https://a.example/x/Guard/a%20b?key=1');
    expect(fetchedFolder('https://a.example/x/Guard%201/').name).toBe('Guard 1');
    expect(fetchedFolder('https://a.example/owner/Guard/resolve/main').name).toBe('Guard');
    expect(fetchedFolder('https://a.example').name).toBe('a.example');
    // No encoding of anything, but an address.
    expect(fetchedFolder('https://a.example/100%/').name).toBe('100%');
    expect(fetchedFolder('https://a.example/100%/').locate('a b')).toBe('https://a.example/100%/a%20b');
  });

  it.each([404, 410, 'a page'] as const)('has no file that is answered by %s', async (absent) => {
    const folder = folderWith({ absent });
    expect(await folder.read('nothing.json', 1e6)).toBeUndefined();
    expect(await folder.open('nothing.safetensors')).toBeUndefined();
  });

  it('has no file that is forbidden where others are not', async () => {
    const folder = folderWith({ absent: 403 });
    await expect(folder.read('nothing.json', 1e6)).rejects.toThrow('403');
    await folder.read('config.json', 1e6);
    expect(await folder.read('nothing.json', 1e6)).toBeUndefined();
  });

  it('asks again for a part where the server fails or the connection breaks off', async () => {
    const failures: Reply[] = [{ status: 503 }, { body: 'break off' }];
    const fails: Answer = (name, begin) => (name === weights && begin ? failures.shift() : undefined);
    await using opened = await openModel(folderWith(fails));
    expect((await bytesOf(opened)).equals(await bytesOnDisk())).toBe(true);
    expect(failures).toEqual([]);
  });

  it('leaves nothing on the signal once it has asked again', async () => {
    const { signal } = new AbortController();
    const failures = [503, 503];
    const fails: Answer = (name, begin) => {
      const status = name === weights && begin ? failures.shift() : undefined;
      return status === undefined ? undefined : { status };
    };
    // Without the signal, on which requests leave their own.
    const asks: typeof fetch = (url, { signal: _, ...init } = {}) => fetch(url, init);
    await using opened = await openModel(folderWith(fails, { signal, fetch: asks }));
    expect((await bytesOf(opened)).equals(await bytesOnDisk())).toBe(true);
    expect(failures).toEqual([]);
    expect(getEventListeners(signal, 'abort')).toEqual([]);
  });

  it('gives up once it is told to', async () => {
    const stop = new AbortController();
    const never: Answer = () => {
      setTimeout(() => stop.abort(new Error('enough')));
      return { body: 'never' };
    };
    const folder = folderWith(never, { signal: stop.signal });
    await expect(folder.read('config.json', 1e6)).rejects.toThrow('enough');
  });

  it('has an address', () => {
    expect(() => fetchedFolder('a/model')).toThrow('The address of a model folder must be a URL, but is "a/model".');
  });
});

describe('a file that changes on the server', () => {
  type Headers = Readonly<Record<string, string>>;
  const [monday, tuesday] = ['Mon, 05 Jan 2026 10:00:00 GMT', 'Tue, 06 Jan 2026 10:00:00 GMT'];

  /** Whether the weights are those on the disk, of a server whose answers have these headers: the first, and later ones. */
  const readWith = async (first: Headers, then: Headers) => {
    let asked = 0;
    const asks: typeof fetch = async (url, init) => {
      const { body, status, headers } = await fetch(url, init);
      const own = String(url).endsWith(weights) && asked++ > 0 ? then : first;
      return new Response(body, { status, headers: { ...Object.fromEntries(headers), ...own } });
    };
    await using opened = await openModel(folderWith({}, { fetch: asks }));
    return (await bytesOf(opened)).equals(await bytesOnDisk());
  };

  it.each<[string, Headers, Headers, string]>([
    ['tag', { etag: '"1"' }, { etag: '"2"' }, 'ETag "1" then, "2" now'],
    ['tag, a weak one', { etag: 'W/"1"' }, { etag: 'W/"2"' }, 'ETag "1" then, "2" now'],
    ['date', { 'last-modified': monday }, { 'last-modified': tuesday }, `Last-Modified ${monday} then, ${tuesday} now`],
    [
      'date, where its tag is shown once',
      { etag: '"1"', 'last-modified': monday },
      { 'last-modified': tuesday },
      `Last-Modified ${monday} then, ${tuesday} now`,
    ],
  ])('is not mixed with what it was, by its %s', async (_, first, then, told) => {
    const message = expect.stringContaining(`must stay as it was when it was opened, but has changed (${told})`);
    await expect(readWith(first, then)).rejects.toMatchObject({ code: 'read-failed', message });
  });

  it.each<[string, Headers, Headers]>([
    ['a tag that became weak', { etag: '"1"' }, { etag: 'W/"1"' }],
    [
      'the same tag of another date',
      { etag: '"1"', 'last-modified': monday },
      { etag: '"1"', 'last-modified': tuesday },
    ],
    ['a tag that is shown once', { etag: '"1"' }, {}],
    ['neither', {}, {}],
  ])('is not told of by %s', async (_, first, then) => {
    expect(await readWith(first, then)).toBe(true);
  });

  it('is not what the browser has kept', async () => {
    let version = 1;
    const kept = new Map<string, number>();
    // As Chromium answers: what it keeps serves for a time, unless it is to ask whether it is still so.
    const asks: typeof fetch = async (_, { headers, cache } = {}) => {
      const { range } = headers as { readonly range: string };
      const serves = cache === undefined || cache === 'default' ? (kept.get(range) ?? version) : version;
      if (cache !== 'no-store') kept.set(range, serves);
      const [begin, end] = range.match(/\d+/g)!.map(Number) as [number, number];
      const own = { 'content-range': `bytes ${begin}-${end}/${2 ** 20}`, etag: `"${serves}"` };
      return new Response(new Uint8Array(end - begin + 1).fill(serves), { status: 206, headers: own });
    };
    for (version of [1, 2]) {
      const file = (await fetchedFolder('https://a.example/model', { fetch: asks }).open(weights))!;
      for (const position of [0, 2 ** 19]) {
        const bytes = new Uint8Array(10);
        await file.read(bytes, position);
        expect(bytes).toEqual(new Uint8Array(10).fill(version));
      }
    }
  });
});

/** Of the weights the header comes as it should, and every later part so. */
const later =
  (reply: (begin: number) => Reply): Answer =>
  (name, begin) =>
    name === weights && begin ? reply(begin) : undefined;
const of =
  (wanted: string, reply: Reply): Answer =>
  (name) =>
    name === wanted ? reply : undefined;
const part = (contentRange: string, bytes = 1000): Reply => ({
  status: 206,
  contentRange,
  body: Buffer.alloc(bytes, 0x7f),
});

it.each<[string, Answer, string, RegExp]>([
  [
    'another part',
    later((begin) => part(`bytes ${begin + 1}-${begin + 1000}/${size}`)),
    'read-failed',
    /must send the part from byte (\d+) of \d+, but sent the part from byte/,
  ],
  [
    'a part of a file that has changed',
    later((begin) => part(`bytes ${begin}-${begin + 999}/${size + 1}`)),
    'read-failed',
    RegExp(`of ${size}, but sent the part from byte \\d+ of ${size + 1}`),
  ],
  ['a part without a word on where it begins', later(() => part('')), 'read-failed', /but sent one that it does not/],
  [
    'nothing of a part',
    later((begin) => part(`bytes ${begin}-${begin}/${size}`, 0)),
    'safetensors-invalid',
    /ended at/,
  ],
  ['a file for a part of it', later(() => ({ body: 'all' })), 'read-failed', /with a part of it, but answers 200/],
  ['weights that are none', of(weights, { body: '{"no":"tensors"}' }), 'safetensors-invalid', /safetensors/],
  ['an endless header', of(weights, part(`bytes 0-999/${2 ** 53}`)), 'safetensors-invalid', /header/],
  ['empty weights', of(weights, { status: 416, contentRange: 'bytes */0' }), 'safetensors-invalid', /safetensors/],
  ['an endless config.json', of('config.json', { body: ' '.repeat(2e6) }), 'config-invalid', /1048576 bytes, but has/],
  ['a broken config.json', of('config.json', { body: '{' }), 'config-invalid', /it must be JSON/],
  ['nothing to strangers', () => ({ status: 401 }), 'model-not-found', /but answers 401/],
])('a server is refused that sends %s', async (_, own, code, message) => {
  const folder = folderWith(own);
  const reading = async () => {
    await using opened = await openModel(folder);
    await bytesOf(opened);
  };
  await expect(reading()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});
