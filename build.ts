/** `npm run build`: JavaScript and type declarations into dist/, with the files that are read at run time beside them. */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
execFileSync('npx', ['tsc', '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
for (const folder of ['guard/models', 'guard/policies', 'guard/demo', 'guard/evaluation/maps']) {
  cpSync(folder, `dist/${folder}`, { recursive: true, filter: (file) => !file.endsWith('.ts') });
}
chmodSync('dist/guard/cli/main.js', 0o755);
