import { openWebGpu } from '../engine/node/open-webgpu.ts';
import type { WebGpuBackend } from '../engine/webgpu/backend.ts';
import type { DeviceTensor } from '../engine/webgpu/tensor.ts';
import {
  bytesMoved,
  isQuantised,
  shapeOf,
  storedBytes,
  storedElementBytes,
  type TensorContract,
} from '../kernels/contract.ts';
import { type Discovered, discover } from '../kernels/discover.node.ts';
import { seededRandom } from '../kernels/random.ts';
import { dtypeCombinations, guardElements, prepare, type Trial, verify } from '../kernels/verification.ts';
import { type AnyVariant, availableVariants } from '../kernels/webgpu.ts';
import { measureCeilings } from './ceilings.ts';
import { measureDispatches } from './measure.ts';
import type { Flags, TimeFlags } from './measurement.ts';
import { attainable, leastMilliseconds, roofOf } from './roofline.ts';
import { chooseSample, onlySample, sampledReference } from './sample.ts';
import type { Ceilings, KernelRow, Sections, SkippedKernel } from './schema.ts';

/** Inputs are rotated through this many bytes, as far as so many copies go, so that none are found in a cache. */
const rotation = 128 * 2 ** 20;
const mostCopies = 16;

/**
 * A case is left out where even at a quarter of what the roofline allows a single dispatch would take longer than
 * this; it takes half a dozen to verify and time it.
 */
const longestDispatchMs = { normal: 200, quick: 40 };
const expectedShare = 0.25;

type Key = Pick<KernelRow, 'operation' | 'variant' | 'label' | 'dtypes'>;
type Example = Discovered['operation']['benchmarks'][number];

export interface KernelFlags extends TimeFlags {
  readonly only?: string;
}

/** A benchmark size of an operation, in some dtypes. */
interface Work {
  readonly found: Discovered;
  readonly example: Example;
  readonly dtypes: Trial['dtypes'];
  readonly variants: readonly AnyVariant[];
  /** Milliseconds of a dispatch. */
  readonly expected: number;
}

/** Every variant at every benchmark size: verified there, then timed. @throws Error where a result is wrong */
export async function run({
  device: kind,
  hasAdapter,
  only,
  quick,
  seconds,
  progress,
}: Flags & KernelFlags): Promise<Sections> {
  if (kind === 'cpu' || !hasAdapter) return {};
  await using device = await openWebGpu();
  progress('ceilings');
  const ceilings = await measureCeilings(device);
  const work = listWork(device, ceilings, await discover(), only);
  const rows = new Map<Work, KernelRow[]>();
  const skipped: SkippedKernel[] = [];
  const deadline = performance.now() + 1000 * seconds;
  // Where time is short, it is the long ones that are left out.
  for (const item of work.toSorted((a, b) => a.expected - b.expected)) {
    const { found, example, dtypes, variants } = item;
    const key = (variant: AnyVariant): Key => ({
      operation: found.operation.name,
      variant: variant.name,
      label: example.label,
      dtypes: [...new Set(Object.values(dtypes))].filter((d) => d !== 'u32').join('/'),
    });
    const late = performance.now() > deadline ? `the ${seconds} s of --seconds are over` : undefined;
    const reason = reasonToSkip(device, item, quick) ?? late;
    if (reason) {
      skipped.push(...variants.map((variant) => ({ ...key(variant), reason })));
      continue;
    }
    await using bench = new CaseBench(device, found, example, dtypes);
    const timed: KernelRow[] = [];
    for (const variant of variants) {
      progress(`${found.operation.name}/${variant.name} ${example.label}`);
      timed.push({ ...key(variant), ...(await bench.time(variant, ceilings, quick)) });
    }
    rows.set(item, timed);
  }
  return { ceilings, kernels: { rows: work.flatMap((item) => rows.get(item) ?? []), skipped } };
}

/** All there is to do, by operation. */
function listWork(
  device: WebGpuBackend,
  ceilings: Ceilings,
  operations: readonly Discovered[],
  only: string | undefined,
): Work[] {
  return operations
    .filter(({ operation }) => !only || operation.name.includes(only))
    .flatMap((found) =>
      found.operation.benchmarks.flatMap((example) =>
        dtypeCombinations(found.operation).map((dtypes) => {
          const { flops, bytes, narrow } = costOf(found, example, dtypes);
          const expected = leastMilliseconds(roofOf(ceilings, narrow), flops, bytes) / expectedShare;
          return { found, example, dtypes, expected, variants: servingVariants(device, found, example, dtypes) };
        }),
      ),
    )
    .filter(({ variants }) => variants.length > 0);
}

const servingVariants = (
  device: WebGpuBackend,
  { webgpu }: Discovered,
  { dims }: Example,
  dtypes: Trial['dtypes'],
): AnyVariant[] => availableVariants(webgpu, device.traits).filter((variant) => variant.fits(dims, dtypes));

function costOf({ operation }: Discovered, { dims }: Example, dtypes: Trial['dtypes']) {
  const narrow = Object.values(dtypes).some((dtype) => dtype !== 'f32' && dtype !== 'u32');
  return { flops: operation.flops(dims), bytes: bytesMoved(operation, dims, dtypes), narrow };
}

function reasonToSkip(
  device: WebGpuBackend,
  { found, example, dtypes, expected }: Work,
  quick: boolean,
): string | undefined {
  if (expected > longestDispatchMs[quick ? 'quick' : 'normal']) {
    return `a dispatch would take about ${expected.toFixed(0)} ms`;
  }
  // The engine would run such a tensor in blocks; a variant alone takes one buffer.
  if (largestTensor(found, example, dtypes) > device.largestBinding) {
    return 'a tensor exceeds the largest binding';
  }
  return undefined;
}

function largestTensor({ operation }: Discovered, { dims }: Example, dtypes: Trial['dtypes']): number {
  const sizes = Object.entries(operation.tensors as Record<string, TensorContract>).map(
    ([name, contract]) =>
      storedBytes(dtypes[name]!, shapeOf(contract, dims)) + guardElements * storedElementBytes(dtypes[name]!),
  );
  return Math.max(...sizes);
}

/** One case on a device: its inputs several times over, and what is to come of them. */
class CaseBench {
  readonly #device: WebGpuBackend;
  readonly #found: Discovered;
  readonly #example: Example;
  readonly #trial: Trial;
  readonly #sample: ReturnType<typeof chooseSample>;
  readonly #sets: readonly Readonly<Record<string, DeviceTensor>>[];

  constructor(device: WebGpuBackend, found: Discovered, example: Example, dtypes: Trial['dtypes']) {
    const { operation, reference } = found;
    this.#device = device;
    this.#found = found;
    this.#example = example;
    this.#sample = chooseSample(operation, example.dims, seededRandom(2));
    const oracle = this.#sample ? sampledReference(operation, reference, this.#sample) : reference;
    this.#trial = prepare(operation, oracle, example, dtypes, 1);
    const { before } = this.#trial;
    const bytes = Object.values(before).reduce((sum, { byteLength }) => sum + byteLength, 0);
    const copies = Math.max(1, Math.min(mostCopies, Math.ceil(rotation / bytes)));
    this.#sets = Array.from({ length: copies }, () =>
      Object.fromEntries(
        Object.entries(before).map(([name, array]) => {
          // With its guard it is no whole tensor, and quantised ones are whole: those are allocated as words.
          const dtype = dtypes[name]!;
          const tensor = device.allocate(name, isQuantised(dtype) ? 'u32' : dtype, [array.length]);
          device.write(tensor, array);
          return [name, tensor];
        }),
      ),
    );
  }

  /** Verifies a variant, then times it. @throws Error where its result is wrong */
  async time(variant: AnyVariant, ceilings: Ceilings, quick: boolean): Promise<Omit<KernelRow, keyof Key>> {
    const { scalars, dtypes } = this.#trial;
    const views = this.#sets.map((set) => this.#shaped(set));
    await this.#verify(variant);
    const queue = (i: number) => this.#device.runVariant(variant, views[i % views.length]!, scalars);
    const effort = quick ? { minimumMs: 20, minimumRuns: 3 } : {};
    const { clock, ...timing } = await measureDispatches(this.#device, queue, effort);
    const { flops, bytes, narrow } = costOf(this.#found, this.#example, dtypes);
    const roof = roofOf(ceilings, narrow);
    const [gflops, gigabytesPerSecond] = [flops / timing.median / 1e6, bytes / timing.median / 1e6];
    return {
      ...timing,
      flops,
      bytes,
      gflops,
      gigabytesPerSecond,
      // Without arithmetic there is nothing but memory to be bound by.
      share: flops === 0 ? gigabytesPerSecond / roof.bandwidth : gflops / attainable(roof, flops / bytes),
      clock,
      verified: this.#sample ? 'sample' : 'whole',
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // What reads them may still be under way.
    await this.#device.finish();
    for (const tensor of this.#sets.flatMap((set) => Object.values(set))) tensor[Symbol.dispose]();
  }

  async #verify(variant: AnyVariant): Promise<void> {
    const { operation } = this.#found;
    const { before, expected, scalars } = this.#trial;
    const set = this.#sets[0]!;
    for (const name of Object.keys(expected)) this.#device.write(set[name]!, before[name]!);
    this.#device.runVariant(variant, this.#shaped(set), scalars);
    for (const name of Object.keys(expected)) {
      const after = await this.#device.read(set[name]!);
      const seen = this.#sample ? onlySample(operation, this.#trial, name, after, this.#sample) : after;
      const problem = verify(operation, this.#trial, name, seen, variant.tolerance);
      if (problem) throw new Error(`${operation.name}/${variant.name} is wrong: ${problem}`);
    }
  }

  #shaped(set: Readonly<Record<string, DeviceTensor>>): Record<string, DeviceTensor> {
    const { tensors } = this.#found.operation;
    const { dims, dtypes } = this.#trial;
    return Object.fromEntries(
      Object.entries(set).map(([name, tensor]) => [name, tensor.view(shapeOf(tensors[name], dims), dtypes[name])]),
    );
  }
}
