import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { pipeline, Readable } from 'node:stream';

export interface Server extends AsyncDisposable {
  /** Without a slash at the end. */
  readonly origin: string;
}

/** Serves on this machine alone, at a port of its own. */
export async function serve(listener: RequestListener): Promise<Server> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export interface FolderAnswers {
  /** Whether parts of files are sent where they are asked for; they are unless told. */
  readonly ranges?: boolean;
  /** How a file is answered that is not there: 404 unless told, or an application's page. */
  readonly absent?: number | 'a page';
}

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
};

/** Answers with a file of a folder, or the part of it that is asked for. */
export async function answerFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: { readonly folder: string; readonly name: string },
  { ranges = true, absent = 404 }: FolderAnswers = {},
): Promise<void> {
  const path = join(file.folder, decodeURIComponent(file.name));
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile()) {
    const read = (begin: number, end: number) => createReadStream(path, { start: begin, end: end - 1 });
    send(request, response, { name: file.name, size: found.size, ranges, read });
  } else if (absent === 'a page') response.setHeader('content-type', types['.html']!).end('<!doctype html>');
  else response.writeHead(absent).end();
}

/** Answers with bytes. */
export function answerBytes(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, name }: { readonly bytes: Uint8Array; readonly name: string },
): void {
  const read = (begin: number, end: number) => Readable.from([bytes.subarray(begin, end)]);
  send(request, response, { name, size: bytes.length, ranges: false, read });
}

interface Content {
  readonly name: string;
  readonly size: number;
  readonly ranges: boolean;
  /** The bytes from `begin` to `end`, which is not among them. */
  read(begin: number, end: number): Readable;
}

function send(request: IncomingMessage, response: ServerResponse, { name, size, ranges, read }: Content): void {
  response.setHeader('content-type', types[extname(name)] ?? 'application/octet-stream');
  const range = ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') : null;
  const [begin, end] = range ? [Number(range[1]), Math.min(Number(range[2]) + 1, size)] : [0, size];
  if (range && begin >= size) {
    response.setHeader('content-range', `bytes */${size}`).writeHead(416).end();
    return;
  }
  if (range) response.setHeader('content-range', `bytes ${begin}-${end - 1}/${size}`);
  response.setHeader('content-length', end - begin).writeHead(range ? 206 : 200);
  if (end === begin) response.end();
  // A browser may give up what it asked for.
  else pipeline(read(begin, end), response, () => {});
}
