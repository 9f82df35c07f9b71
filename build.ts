/**
 * `npm run build`: JavaScript and type declarations into dist/, or the folder that is named, with the files that are read
 * at run time beside them.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';

const out = process.argv[2] ?? 'dist';
rmSync(out, { recursive: true, force: true });
execFileSync('npx', ['tsc', '-p', 'tsconfig.build.json', '--outDir', out], { stdio: 'inherit' });
for (const folder of ['guard/models', 'guard/policies', 'guard/demo', 'guard/evaluation/maps']) {
  cpSync(folder, join(out, folder), { recursive: true, filter: (file) => !file.endsWith('.ts') });
}
chmodSync(join(out, 'guard/cli/main.js'), 0o755);

// sentencepiece-js requires modules of Node.js, which it does not use in a page: without them, and as an ECMAScript
// module, it goes through any bundler, and runs in a worker too. `#sentencepiece` in package.json leads there.
const forPages = join(out, 'tokenizer/sentencepiece-js');
await build({
  stdin: { contents: `export { SentencePieceProcessor } from 'sentencepiece-js';`, resolveDir: import.meta.dirname },
  outfile: join(forPages, 'browser.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'browser',
  define: { process: 'undefined', __filename: '"/"' },
  banner: { js: '/*! sentencepiece-js 1.1.0, Apache-2.0: see LICENSE */' },
  plugins: [
    {
      name: 'without Node.js',
      setup: ({ onResolve, onLoad }) => {
        onResolve({ filter: /^(fs|module|url)$/ }, ({ path }) => ({ path, namespace: 'absent' }));
        onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents: 'export const { URL } = globalThis;' }));
      },
    },
  ],
});
cpSync('node_modules/sentencepiece-js/LICENSE', join(forPages, 'LICENSE'));
