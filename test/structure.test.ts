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

/** What stands between braces in the imports of a file, by the path of the file that it comes from. */
const namesImportedBy = ({ path, text }: (typeof files)[number]) =>
  [...text.matchAll(/(?:import|export) (?:type )?\{([^}]*)\} from '(\.[^']+)'/g)].flatMap(([, names, from]) =>
    [...names!.matchAll(/(?:^|,)\s*(?:type )?(\w+)/g)].map(([, name]) => `${join(dirname(path), from!)} ${name}`),
  );

const importsOf = (text: string) => [...text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)].map((match) => match[1]!);

/** The files of an operation's folder other than those that `discover` looks into. */
const besideOperation = /^kernels\/(?!wasm\/)[^/]+\/(?!(index|reference|cpu|wasm|webgpu)\.ts)/;

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

  it('leaves no kernel unnamed: what the other files of an operation export is used, and not by tests alone', () => {
    const used = new Set(files.filter(({ floor }) => floor !== 'test').flatMap(namesImportedBy));
    const exported = files
      .filter(({ path }) => besideOperation.test(path))
      .flatMap(({ path, text }) =>
        [...text.matchAll(/^export (?:const|function) (\w+)/gm)].map(([, name]) => `${path} ${name}`),
      );
    expect(exported).toContain('kernels/matmul/tiled.ts portable');
    expect(exported.filter((name) => !used.has(name))).toEqual([]);
  });

  it.each(files.filter(({ floor }) => floor !== 'test'))('$path has no mutable state of its own', ({ text }) => {
    expect(text.match(/^(export )?(let|var) .*/m)).toBeNull();
  });
});
