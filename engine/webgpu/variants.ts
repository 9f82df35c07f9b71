import * as addBias from '../../kernels/add-bias/webgpu.ts';
import * as attentionLines from '../../kernels/attention/webgpu.lines.ts';
import * as attentionSubgroups from '../../kernels/attention/webgpu.subgroups.ts';
import * as attention from '../../kernels/attention/webgpu.ts';
import * as embedding from '../../kernels/embedding/webgpu.ts';
import * as gate from '../../kernels/gate/webgpu.ts';
import * as gatedMatmul from '../../kernels/gated-matmul/webgpu.ts';
import * as gatherRows from '../../kernels/gather-rows/webgpu.ts';
import * as logProbabilities from '../../kernels/log-probabilities/webgpu.ts';
import * as matmul from '../../kernels/matmul/webgpu.ts';
import * as matmulAdd from '../../kernels/matmul-add/webgpu.ts';
import * as normHeads from '../../kernels/norm-heads/webgpu.ts';
import * as randomNormal from '../../kernels/random-normal/webgpu.ts';
import * as rmsNorm from '../../kernels/rms-norm/webgpu.ts';
import * as ropeAndCache from '../../kernels/rope-and-cache/webgpu.ts';
import type { AnyFamily, AnyVariant } from '../../kernels/webgpu.ts';

type MatmulKernel = 'int8' | 'oneRow' | 'subgroupMatrix' | 'subgroups' | 'fewRows' | 'vec4' | 'portable';

/** One order for the operations of a family. */
const matmulLike = (kernels: Readonly<Record<MatmulKernel, AnyVariant | AnyFamily>>) => [
  kernels.int8,
  kernels.oneRow,
  kernels.subgroupMatrix,
  kernels.subgroups,
  kernels.fewRows,
  kernels.vec4,
  kernels.portable,
];

/** The kernels that the engine uses, by operation: the most special first, the portable one last. */
export const kernels: Readonly<Record<string, readonly (AnyVariant | AnyFamily)[]>> = {
  'add-bias': [addBias.vec4, addBias.portable],
  attention: [
    attentionLines.lines,
    attentionSubgroups.subgroups,
    attention.fewRows,
    attention.vec4,
    attention.portable,
  ],
  embedding: [embedding.vec4, embedding.portable],
  gate: [gate.vec4, gate.portable],
  'gated-matmul': matmulLike(gatedMatmul),
  'gather-rows': [gatherRows.vec4, gatherRows.portable],
  'log-probabilities': [logProbabilities.portable],
  matmul: matmulLike(matmul),
  'matmul-add': matmulLike(matmulAdd),
  'norm-heads': [normHeads.vec4, normHeads.portable],
  'random-normal': [randomNormal.portable],
  'rms-norm': [rmsNorm.vec4, rmsNorm.portable],
  'rope-and-cache': [ropeAndCache.vec4, ropeAndCache.portable],
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
