import { join } from 'node:path';
import { type BuildResult, build, type Metafile, type PluginBuild } from 'esbuild';

/** A bundle for a page: its files by name, and what they are made of. */
export interface Bundle {
  readonly files: ReadonlyMap<string, Uint8Array>;
  readonly metafile: Metafile;
}

/**
 * Bundles for a page with esbuild as it comes, without a word on this package: what its users need to do.
 *
 * @param project where this package is installed
 * @param entries by the names of the files that they become
 */
export async function bundleForPage(project: string, entries: Readonly<Record<string, string>>): Promise<Bundle> {
  const result: BuildResult<{ write: false; metafile: true }> = await build({
    entryPoints: { ...entries },
    outdir: join(project, 'out'),
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
    metafile: true,
    logLevel: 'silent',
    plugins: [
      {
        // Entries of this project are typed by its sources and run with what is published.
        name: 'as installed',
        setup: ({ onResolve, resolve }: PluginBuild) => {
          onResolve({ filter: /\/guard\/browser\/index\.ts$/ }, () =>
            resolve('llama-guard-webgpu/browser', { kind: 'import-statement', resolveDir: project }),
          );
        },
      },
    ],
  });
  if (result.warnings.length > 0) throw new Error(JSON.stringify(result.warnings));
  const files = result.outputFiles.map(
    ({ path, contents }) => [path.slice(join(project, 'out').length), contents] as const,
  );
  return { files: new Map(files), metafile: result.metafile };
}
