/**
 * `npm run test:matrix`: verifies the kernels that use subgroup matrices, and the embedded model through them, on this
 * machine's adapter where it offers them and in software where it does not. Ends with `N passed, N failed`.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { openWebGpu } from '../engine/node/open-webgpu.ts';
import { end, runVitest } from './support/vitest.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const run = (command: string, args: readonly string[]) => spawnSync(command, args, { stdio: 'inherit' }).status ?? 1;

/** The adapter's name and the products that a subgroup computes as one; none where there is no adapter. */
async function offered(): Promise<{ name: string; products: string[] }> {
  try {
    await using device = await openWebGpu();
    const products = device.traits.subgroupMatrixConfigs.map(
      ({ componentType, resultComponentType, M, N, K }) => `${componentType} -> ${resultComponentType} ${M}x${N}x${K}`,
    );
    return { name: device.description.name, products };
  } catch {
    return { name: 'no adapter', products: [] };
  }
}

const { name, products } = await offered();
console.log(`${name}: ${products.join(', ') || 'no subgroup matrices'}`);
if (products.length === 0) {
  if (process.argv.includes('--in-software')) {
    console.error('The software adapter does not offer subgroup matrices.');
    end({ passed: 0, failed: 1 });
  }
  const again = ['node', '--import', 'tsx', 'test/matrix.ts', '--in-software'];
  process.exit(run('bash', [here('./matrix-vulkan.sh'), ...again]));
}

const { passed, failed, names } = runVitest([
  // The family's kernels, which is chosen when, and the forward pass.
  ...['kernels', 'subgroup-matrix', 'engine-reference'].map((file) => here(`./${file}.test.ts`)),
  '--testNamePattern',
  'matmul(-add)? webgpu/.*, all features|subgroup matrices|on webgpu in f16',
]);
const verified = names.filter((name) => name.includes('webgpu/subgroup-matrix')).length;
const chosen = names.some((name) => name.includes('run the embedded model'));
console.log(
  `${verified} kernels with subgroup matrices verified; ${chosen ? '' : 'not '}chosen for the embedded model.`,
);
end({ passed, failed: Math.max(failed, verified > 0 && chosen ? 0 : 1) });
