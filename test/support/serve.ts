import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';

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

/** Answers with a file of a folder. */
export async function answerFile(
  request: IncomingMessage,
  response: ServerResponse,
  file: { readonly folder: string; readonly name: string },
  { ranges = true, absent = 404 }: FolderAnswers = {},
): Promise<void> {
  const bytes = await readFile(join(file.folder, decodeURIComponent(file.name))).catch(() => undefined);
  if (!bytes) {
    if (absent === 'a page') response.setHeader('content-type', types['.html']!).end('<!doctype html>');
    else response.writeHead(absent).end();
    return;
  }
  answerBytes(request, response, { bytes, name: file.name }, ranges);
}

/** Answers with bytes, or the part of them that is asked for. */
export function answerBytes(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, name }: { readonly bytes: Uint8Array; readonly name: string },
  ranges = true,
): void {
  response.setHeader('content-type', types[extname(name)] ?? 'application/octet-stream');
  const range = ranges ? /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') : null;
  if (!range) {
    response.setHeader('content-length', bytes.length).end(bytes);
    return;
  }
  const [begin, end] = [Number(range[1]), Math.min(Number(range[2]) + 1, bytes.length)];
  if (begin >= bytes.length) {
    response.setHeader('content-range', `bytes */${bytes.length}`).writeHead(416).end();
    return;
  }
  response.setHeader('content-range', `bytes ${begin}-${end - 1}/${bytes.length}`);
  response
    .setHeader('content-length', end - begin)
    .writeHead(206)
    .end(bytes.subarray(begin, end));
}
