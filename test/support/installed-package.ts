import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
export const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/**
 * Makes a project of an empty folder in which this package is installed as it is published, with its dependencies alone
 * and none of those for development.
 * @returns the installed package's own folder
 */
export function installPackage(folder: string): string {
  const packed = join(folder, 'packed');
  mkdirSync(packed);
  for (const path of ['package.json', 'README.md', 'LICENSE', 'CHANGELOG.md', 'docs']) {
    cpSync(join(root, path), join(packed, path), { recursive: true });
  }
  execFileSync(process.execPath, ['--import', 'tsx', 'build.ts', join(packed, 'dist')], { cwd: root });
  const installed = join(folder, 'node_modules', manifest.name);
  mkdirSync(installed, { recursive: true });
  execFileSync('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: packed, stdio: 'ignore' });
  const archive = join(folder, `${manifest.name}-${manifest.version}.tgz`);
  execFileSync('tar', ['-xzf', archive, '--strip-components=1', '-C', installed]);
  for (const name of Object.keys(manifest.dependencies)) {
    const link = join(folder, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), link);
  }
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  return installed;
}
