import { answerBytes, answerFile, type FolderAnswers, type Server, serve } from './serve.ts';

export type PageSite = Server;

export interface PageSiteOptions {
  /** What a bundler made, by the names that they are served under. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** A model folder. */
  readonly model: string;
  /** Whether the page may share memory with its threads. */
  readonly isolated: boolean;
  /** The page's Content-Security-Policy. */
  readonly policy?: string;
}

const html =
  '<!doctype html><title>Guard</title><input type="file" webkitdirectory><script type="module" src="/page.js"></script>';

/** How the model folder is served under names of its own. */
const places: Readonly<Record<string, FolderAnswers>> = {
  model: {},
  whole: { ranges: false },
  application: { absent: 'a page' },
};

/** Serves a page with what it loads: the model as `/model`, and in worse ways as `/whole` and `/application`. */
export function servePages({ files, model, isolated, policy }: PageSiteOptions): Promise<PageSite> {
  return serve(async (request, response) => {
    if (isolated) {
      response.setHeader('cross-origin-opener-policy', 'same-origin');
      response.setHeader('cross-origin-embedder-policy', 'require-corp');
    }
    if (policy) response.setHeader('content-security-policy', policy);
    const path = request.url!;
    const bytes = path === '/' ? new TextEncoder().encode(html) : files.get(path);
    const [, place = '', name = ''] = path.split('/');
    if (bytes) answerBytes(request, response, { bytes, name: path === '/' ? 'index.html' : path });
    else if (place in places) await answerFile(request, response, { folder: model, name }, places[place]);
    else response.writeHead(place === 'broken' ? 503 : 404).end();
  });
}
