import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Bottom up: a folder imports only from itself and the ones before it. */
const floors = ['kernels', 'tokenizer', 'engine', 'guard', 'bench', 'test'];

const files = floors.flatMap((floor) =>
  readdirSync(join(root, floor), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts') && !file.includes('node_modules'))
    .map((file) => ({ floor, path: join(floor, file), text: readFileSync(join(root, floor, file), 'utf8') })),
);

const importsOf = (text: string) => [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!);

/** Where Node.js may be relied on; the rest runs in a page. */
const nodeOnly = /(^|\/)(node|cli|demo)\/|\.node\.ts$|^(bench|test)\//;

describe('the house', () => {
  it('has floors', () => {
    for (const floor of floors)
      expect(
        files.filter((file) => file.floor === floor),
        floor,
      ).not.toEqual([]);
  });

  it.each(files)('$path imports only from its own floor and those below', ({ floor, path, text }) => {
    const wrong = importsOf(text)
      .filter((name) => name.startsWith('.'))
      .map((name) => relative(root, resolve(root, dirname(path), name)).split('/')[0]!)
      .filter((target) => floors.indexOf(target) > floors.indexOf(floor));
    expect(wrong).toEqual([]);
  });

  it.each(files.filter(({ path }) => !nodeOnly.test(path)))('$path runs in a page', ({ text }) => {
    expect(importsOf(text).filter((name) => name.startsWith('node:'))).toEqual([]);
  });

  it.each(files.filter(({ floor }) => floor !== 'test'))('$path has no mutable state of its own', ({ text }) => {
    expect(text.match(/^(export )?(let|var) .*/m)).toBeNull();
  });
});
