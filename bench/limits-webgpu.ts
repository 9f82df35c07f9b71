import { createGpu } from '../engine/node/open-webgpu.ts';
import { BufferUsage } from '../engine/webgpu/memory.ts';
import { weightDTypes } from '../kernels/contract.ts';
import {
  type AnyVariant,
  type DeviceTraits,
  type Extent,
  f16Matrices,
  LINEAR_BUILTINS,
  LINEAR_INDEX,
  linearGrid,
  type SubgroupMatrixConfig,
  webgpuVariant,
} from '../kernels/webgpu.ts';
import { type ArithmeticLoop, copying, type LimitKernels, multiplyAdd, reading } from './limits.ts';
import { measure } from './measure.ts';
import type { Ceilings } from './schema.ts';

/** Few workgroups that stride through the buffer: some software adapters spend a microsecond on each. */
const strided = {
  name: 'strided',
  workgroupSize: [256, 1, 1] as const,
  workgroups: (): Extent => [1024, 1, 1],
};
const STRIDES = `var i = ${LINEAR_INDEX}; i < params.elements / 4u; i += groups.x * WORKGROUP_SIZE.x`;

const copyKernel = webgpuVariant(copying, {
  ...strided,
  vectors: ['x', 'out'],
  body: /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  for (${STRIDES}) { out[i] = x[i]; }
}`,
});

const readKernel = webgpuVariant(reading, {
  ...strided,
  vectors: ['x'],
  body: /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  var sums = vec4<f32>();
  for (${STRIDES}) { sums += x[i]; }
  if (dot(sums, vec4<f32>(1.0)) > params.bound) { out[0] = sums.x; }
}`,
});

/** What is narrower than f32 can be multiplied as f16. */
const narrow = weightDTypes.filter((dtype) => dtype !== 'f32');

/** Multiply-adds on independent chains of four lanes each. */
const vectorLoop = (component: 'f32' | 'f16', chains: number): ArithmeticLoop<AnyVariant> => {
  const x = Array.from({ length: chains }, (_, chain) => `x${chain}`);
  const variant = webgpuVariant(multiplyAdd, {
    name: `${component} on ${chains} chains`,
    needs: component === 'f16' ? ['shader-f16'] : [],
    workgroupSize: [64, 1, 1],
    workgroups: ({ invocations }) => linearGrid(invocations, 64),
    body: /* wgsl */ `
alias Lanes = vec4<${component}>;

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  let i = ${LINEAR_INDEX};
  if (i >= params.invocations) { return; }
  let factor = Lanes(${component}(params.factor));
  let addend = Lanes(${component}(params.addend));
  ${x.map((name, chain) => `var ${name} = Lanes(${component}(i & 63u) + ${component}(${chain}));`).join('\n  ')}
  for (var round = 0u; round < params.rounds; round++) {
    ${x.map((name) => `${name} = fma(${name}, factor, addend);`).join('\n    ')}
  }
  let sum = ${x.join(' + ')};
  out[i] = f32(sum.x + sum.y + sum.z + sum.w);
}`,
  });
  return {
    name: component,
    dtypes: component === 'f32' ? weightDTypes : narrow,
    variant,
    flopsPerRound: 2 * 4 * chains,
  };
};

const subgroups = 4;

/** Products of f16 matrices that a subgroup computes as one, added up in f32: chains of one right and many left operands. */
const matrixLoop = (
  { maxSubgroupSize }: DeviceTraits,
  { M, N, K }: SubgroupMatrixConfig,
  chains: number,
): ArithmeticLoop<AnyVariant> => {
  const invocations = subgroups * maxSubgroupSize;
  const each = (line: (chain: number) => string) => Array.from({ length: chains }, (_, c) => line(c)).join('\n  ');
  const variant = webgpuVariant(multiplyAdd, {
    name: `subgroup-matrix-${M}x${N}x${K} on ${chains} chains`,
    needs: ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'],
    constants: { M, N, K, CHAINS: chains, SUBGROUPS: subgroups },
    workgroupSize: [invocations, 1, 1],
    workgroups: ({ invocations: all }) => linearGrid(all, invocations),
    body: /* wgsl */ `
alias Left = subgroup_matrix_left<f16, K, M>;
alias Right = subgroup_matrix_right<f16, N, K>;
alias Result = subgroup_matrix_result<f32, N, M>;

const OPERANDS = (CHAINS * M + N) * K;

var<workgroup> operands: array<f16, OPERANDS>;
var<workgroup> results: array<f32, SUBGROUPS * M * N>;

@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}, @builtin(subgroup_id) subgroup: u32) {
  // No two left operands are equal, so that no two chains are.
  for (var at = lane; at < OPERANDS; at += WORKGROUP_SIZE.x) {
    operands[at] = f16(params.factor) / f16(at + 1u);
  }
  workgroupBarrier();
  let right = subgroupMatrixLoad<Right, col_major>(&operands, CHAINS * M * K, K);
  ${each((c) => `let left${c} = subgroupMatrixLoad<Left, row_major>(&operands, ${c}u * M * K, K);`)}
  ${each((c) => `var sum${c} = Result();`)}
  for (var round = 0u; round < params.rounds; round++) {
    ${each((c) => `sum${c} = subgroupMatrixMultiplyAccumulate(left${c}, right, sum${c});`)}
  }
  let place = subgroup % SUBGROUPS * M * N;
  var sum = params.addend;
  ${each(
    (c) => `subgroupMatrixStore<row_major>(&results, place, sum${c}, N);
  workgroupBarrier();
  sum += results[lane % (SUBGROUPS * M * N)];
  workgroupBarrier();`,
  )}
  let i = ${LINEAR_INDEX};
  if (i < params.invocations) { out[i] = sum; }
}`,
  });
  // Where subgroups are smaller than the largest there are more of them, which do more than is counted here.
  const flopsPerRound = (2 * M * N * K * chains) / maxSubgroupSize;
  return { name: 'f16 in subgroup matrices', dtypes: narrow, variant, flopsPerRound };
};

/** The kernels that find the limits of a WebGPU device. */
export function webGpuLimits(traits: DeviceTraits): LimitKernels<AnyVariant> {
  const { features, subgroupMatrixConfigs } = traits;
  // Few chains do not hide the latency of a GPU, many do not fit in the registers of a processor.
  const loops = [
    ...[2, 4, 8].flatMap((chains) => [vectorLoop('f32', chains), vectorLoop('f16', chains)]),
    ...f16Matrices(subgroupMatrixConfigs).flatMap((config) =>
      [4, 8].map((chains) => matrixLoop(traits, config, chains)),
    ),
  ];
  return {
    copying: copyKernel,
    reading: readKernel,
    arithmetic: loops.filter(({ variant }) => variant.needs.every((feature) => features.has(feature))),
    invocations: 2 ** 19,
    rounds: 128,
  };
}

const copiedBytes = 256 * 2 ** 20;

/** Copies between buffers, on a device of its own: the engine has no use for them. */
export async function bufferCopies(): Promise<Ceilings['bandwidth']> {
  const gpu = await createGpu();
  const adapter = (await gpu.requestAdapter({ powerPreference: 'high-performance' }))!;
  const device = await adapter.requestDevice();
  try {
    const size = Math.min(copiedBytes, device.limits.maxBufferSize);
    const usage = BufferUsage.copySource | BufferUsage.copyDestination;
    const [source, target] = ['source', 'target'].map((label) => device.createBuffer({ label, size, usage }));
    const copies = 4;
    const { median } = await measure(
      async () => {
        const encoder = device.createCommandEncoder();
        for (let i = 0; i < copies; i++) encoder.copyBufferToBuffer(source!, 0, target!, 0, size);
        device.queue.submit([encoder.finish()]);
        await device.queue.onSubmittedWorkDone();
      },
      { minimumMs: 200 },
    );
    return [{ name: 'copying, between buffers', gigabytesPerSecond: (2 * size * copies) / median / 1e6 }];
  } finally {
    device.destroy();
    await device.lost;
  }
}
