import { variants as addBias } from '../../kernels/add-bias/webgpu.ts';
import { variants as attention } from '../../kernels/attention/webgpu.ts';
import { variants as embedding } from '../../kernels/embedding/webgpu.ts';
import { variants as gate } from '../../kernels/gate/webgpu.ts';
import { variants as gatedMatmul } from '../../kernels/gated-matmul/webgpu.ts';
import { variants as gatherRows } from '../../kernels/gather-rows/webgpu.ts';
import { variants as logProbabilities } from '../../kernels/log-probabilities/webgpu.ts';
import { variants as matmul } from '../../kernels/matmul/webgpu.ts';
import { variants as matmulAdd } from '../../kernels/matmul-add/webgpu.ts';
import { variants as normHeads } from '../../kernels/norm-heads/webgpu.ts';
import { variants as randomNormal } from '../../kernels/random-normal/webgpu.ts';
import { variants as rmsNorm } from '../../kernels/rms-norm/webgpu.ts';
import { variants as ropeAndCache } from '../../kernels/rope-and-cache/webgpu.ts';
import type { AnyFamily, AnyVariant } from '../../kernels/webgpu.ts';

/** The kernels that the engine chooses from, by operation; the order of preference is that of the operation's own list. */
export const kernels: Readonly<Record<string, readonly (AnyVariant | AnyFamily)[]>> = {
  'add-bias': addBias,
  attention,
  embedding,
  gate,
  'gated-matmul': gatedMatmul,
  'gather-rows': gatherRows,
  'log-probabilities': logProbabilities,
  matmul,
  'matmul-add': matmulAdd,
  'norm-heads': normHeads,
  'random-normal': randomNormal,
  'rms-norm': rmsNorm,
  'rope-and-cache': ropeAndCache,
};

/** All that decides what the kernels compute and how: another text means that measurements of them say nothing. */
export function kernelSources(): string {
  const config = { componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 };
  const limits = { maxInvocationsPerWorkgroup: 1024, maxWorkgroupStorage: 65_536 };
  const traits = { ...limits, features: new Set<string>(), subgroupMatrixConfigs: [config] };
  // A family may have other members where subgroups are narrow.
  const devices = [8, 32].map((size) => ({ ...traits, minSubgroupSize: size, maxSubgroupSize: size }));
  const variants = Object.values(kernels).flatMap((all) =>
    all.flatMap((kernel) =>
      kernel.kind === 'webgpu' ? [kernel] : devices.flatMap((device) => kernel.instantiate(device)),
    ),
  );
  return variants
    .map((v) =>
      [v.operation.name, v.name, v.body, JSON.stringify([v.constants, v.workgroupSize, v.vectors])].join('\n'),
    )
    .join('\n');
}
