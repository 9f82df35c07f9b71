import { createGpu } from '../engine/node/open-webgpu.ts';
import type { WebGpuBackend } from '../engine/webgpu/backend.ts';
import { BufferUsage } from '../engine/webgpu/memory.ts';
import { f32, operation, read, u32, write } from '../kernels/contract.ts';
import { type AnyVariant, LINEAR_BUILTINS, LINEAR_INDEX, linearGrid, webgpuVariant } from '../kernels/webgpu.ts';
import { measure, measureDispatches } from './measure.ts';
import type { Ceilings } from './schema.ts';

/** Far beyond the last-level cache of any device known, where its bindings allow. */
const copiedBytes = 256 * 2 ** 20;

const copy = operation({
  name: 'copy',
  formula: 'out[i] = x[i]',
  tensors: { x: read('f32', 'elements'), out: write('f32', 'elements') },
  scalars: {},
  flops: () => 0,
  cases: [],
  benchmarks: [],
  tolerance: 0,
});

/** Few workgroups that stride through the buffer: some software adapters spend a microsecond on each. */
const copyKernel = webgpuVariant(copy, {
  name: 'strided',
  vectors: ['x', 'out'],
  workgroupSize: [256, 1, 1],
  workgroups: () => [1024, 1, 1],
  body: /* wgsl */ `
@compute @workgroup_size(WORKGROUP_SIZE.x)
fn main(${LINEAR_BUILTINS}) {
  for (var i = ${LINEAR_INDEX}; i < params.elements / 4u; i += groups.x * WORKGROUP_SIZE.x) { out[i] = x[i]; }
}`,
});

const multiplyAdd = operation({
  name: 'multiply-add',
  formula: 'x = x * factor + addend, again and again',
  tensors: { out: write('f32', 'invocations') },
  // The bound is a parameter, so that compilers neither unroll nor fold the loop.
  scalars: { rounds: u32(), factor: f32(), addend: f32() },
  flops: () => 0,
  cases: [],
  benchmarks: [],
  tolerance: 0,
});

/** Multiply-adds on independent chains of four lanes each. */
const vectorLoop = (component: 'f32' | 'f16', chains: number): ArithmeticLoop => {
  const x = Array.from({ length: chains }, (_, chain) => `x${chain}`);
  const variant = webgpuVariant(multiplyAdd, {
    name: component,
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
  return { variant, flopsPerRound: 2 * 4 * chains };
};

/** A loop of nothing but arithmetic, and how many operations an invocation does in a round of it. */
interface ArithmeticLoop {
  readonly variant: AnyVariant;
  readonly flopsPerRound: number;
}

/** Another kind of arithmetic that a device may have is a line here; the best of each name counts. */
const arithmeticLoops: readonly ArithmeticLoop[] = [
  // Few chains do not hide the latency of a GPU, many do not fit in the registers of a processor.
  ...[2, 4, 8].map((chains) => vectorLoop('f32', chains)),
  ...[2, 4, 8].map((chains) => vectorLoop('f16', chains)),
];

const invocations = 2 ** 19;
const rounds = 128;

/** Measures what no kernel can beat on this device. */
export async function measureCeilings(device: WebGpuBackend): Promise<Ceilings> {
  return {
    bandwidth: { kernel: await kernelCopyBandwidth(device), buffer: await bufferCopyBandwidth() },
    arithmetic: await arithmeticPeaks(device),
  };
}

async function kernelCopyBandwidth(device: WebGpuBackend): Promise<number> {
  const elements = Math.min(copiedBytes, device.largestBinding) / 16;
  using x = device.allocate('copied', 'f32', [4 * elements]);
  using out = device.allocate('copy', 'f32', [4 * elements]);
  const { median } = await measureDispatches(device, () => device.runVariant(copyKernel, { x, out }), {
    minimumMs: 200,
  });
  return (2 * 16 * elements) / median / 1e6;
}

/** On a device of its own: the engine has no use for copies between buffers. */
async function bufferCopyBandwidth(): Promise<number> {
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
    return (2 * size * copies) / median / 1e6;
  } finally {
    device.destroy();
    await device.lost;
  }
}

async function arithmeticPeaks(device: WebGpuBackend): Promise<Ceilings['arithmetic']> {
  using out = device.allocate('sums', 'f32', [invocations]);
  const peaks = new Map<string, number>();
  for (const { variant, flopsPerRound } of arithmeticLoops) {
    if (!variant.needs.every((feature) => device.traits.features.has(feature))) continue;
    // The chains tend to a limit of 1, in range of f16.
    const run = () => device.runVariant(variant, { out }, { rounds, factor: 0.5, addend: 0.5 });
    const { median } = await measureDispatches(device, run, { minimumMs: 200 });
    const gflops = (invocations * rounds * flopsPerRound) / median / 1e6;
    peaks.set(variant.name, Math.max(gflops, peaks.get(variant.name) ?? 0));
  }
  return Array.from(peaks, ([name, gflops]) => ({ name, gflops }));
}
