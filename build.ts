/**
 * `npm run build`: JavaScript and type declarations into dist/, or the folder that is named, with the files that are read
 * at run time beside them.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const out = process.argv[2] ?? 'dist';
rmSync(out, { recursive: true, force: true });
execFileSync('npx', ['tsc', '-p', 'tsconfig.build.json', '--outDir', out], { stdio: 'inherit' });
for (const folder of ['guard/models', 'guard/policies', 'guard/demo', 'guard/evaluation/maps']) {
  cpSync(folder, join(out, folder), { recursive: true, filter: (file) => !file.endsWith('.ts') });
}
chmodSync(join(out, 'guard/cli/main.js'), 0o755);
