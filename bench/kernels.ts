import type { RawTensor } from '../engine/backend.ts';
import {
  bytesMoved,
  isQuantised,
  resolveScalars,
  shapeOf,
  storedBytes,
  storedElementBytes,
  type TensorContract,
} from '../kernels/contract.ts';
import { type Discovered, discover } from '../kernels/discover.node.ts';
import { seededRandom } from '../kernels/random.ts';
import { dtypeCombinations, guardElements, prepare, type Trial, verify } from '../kernels/verification.ts';
import { measureCeilings } from './ceilings.ts';
import { computedOn } from './environment.ts';
import { kernelTargets, targetSize } from './kernel-targets.ts';
import type { Kernel } from './limits.ts';
import { measureDispatches } from './measure.ts';
import { devicesOf, type Flags, type ThreadFlags, type TimeFlags } from './measurement.ts';
import { attainable, leastMilliseconds, roofOf } from './roofline.ts';
import { chooseSample, onlySample, sampledReference } from './sample.ts';
import type { Ceilings, KernelRow, KernelsResult, Sections } from './schema.ts';
import { openCpuSubject, openWebGpuSubject, type Subject } from './subject.ts';

/** Inputs are rotated through this many bytes, as far as so many copies go, so that none are found in a cache. */
const rotation = 128 * 2 ** 20;
const mostCopies = 256;

/**
 * A case is left out where even at a quarter of what the roofline allows a single dispatch would take longer than
 * this; it takes half a dozen to verify and time it.
 */
const longestDispatchMs = { normal: 200, quick: 60 };
const expectedShare = 0.25;

type Key = Pick<KernelRow, 'operation' | 'variant' | 'label' | 'dtypes'>;
type Example = Discovered['operation']['benchmarks'][number];

export interface KernelFlags extends TimeFlags, ThreadFlags {
  readonly only?: string;
}

/** How far a device's measurement goes. */
interface Course {
  readonly only: string | undefined;
  readonly quick: boolean;
  readonly seconds: number;
  readonly progress: (what: string) => void;
}

/** A benchmark size of an operation, in some dtypes. */
interface Work<K extends Kernel> {
  readonly found: Discovered;
  readonly example: Example;
  readonly dtypes: Trial['dtypes'];
  readonly variants: readonly K[];
  /** Milliseconds of a dispatch. */
  readonly expected: number;
}

/** Every variant at every benchmark size, on each device: verified there, then timed. @throws Error where a result is wrong */
export async function run(flags: Flags & KernelFlags): Promise<Sections> {
  const devices = devicesOf(flags);
  const kernels: KernelsResult[] = [];
  for (const device of devices) {
    const course: Course = {
      only: flags.only,
      quick: flags.quick,
      seconds: flags.seconds / devices.length,
      progress: (what) => flags.progress(`${device}: ${what}`),
    };
    kernels.push(
      device === 'webgpu'
        ? await benchSubject(await openWebGpuSubject(), course)
        : await benchSubject(openCpuSubject(flags.threads), course),
    );
  }
  return { kernels };
}

async function benchSubject<K extends Kernel>(subject: Subject<K>, course: Course): Promise<KernelsResult> {
  await using backend = subject.backend;
  const { only, quick, seconds, progress } = course;
  progress('ceilings');
  const ceilings = await measureCeilings(subject);
  const work = listWork(subject, ceilings, await discover(), only);
  const timed = new Map<Work<K>, KernelRow[]>();
  const skipped: KernelsResult['skipped'] = [];
  const deadline = performance.now() + 1000 * seconds;
  // Where time is short, it is the long ones that are left out, but for what targets are about.
  const rank = ({ example, expected }: Work<K>) =>
    subject.backend.description.kind === 'cpu' && example.label === targetSize ? 0 : expected;
  for (const item of work.toSorted((a, b) => rank(a) - rank(b))) {
    const { found, example, dtypes, variants } = item;
    const key = (variant: K): Key => ({
      operation: found.operation.name,
      variant: variant.name,
      label: example.label,
      dtypes: floatsOf(dtypes).join('/'),
    });
    const late = performance.now() > deadline ? `the ${seconds} s of --seconds are over` : undefined;
    const reason = reasonToSkip(subject, item, quick) ?? late;
    if (reason) {
      skipped.push(...variants.map((variant) => ({ ...key(variant), reason })));
      continue;
    }
    await using bench = new CaseBench(subject, found, example, dtypes);
    const rows: KernelRow[] = [];
    for (const variant of variants) {
      progress(`${found.operation.name}/${variant.name} ${example.label}`);
      rows.push({ ...key(variant), ...(await bench.time(variant, ceilings, quick)) });
    }
    timed.set(item, rows);
  }
  const rows = work.flatMap((item) => timed.get(item) ?? []);
  const on = computedOn(backend.description);
  return { ...on, ceilings, rows, skipped, targets: kernelTargets(on, rows) };
}

/** All there is to do, by operation. */
function listWork<K extends Kernel>(
  subject: Subject<K>,
  ceilings: Ceilings,
  operations: readonly Discovered[],
  only: string | undefined,
): Work<K>[] {
  return operations
    .filter(({ operation }) => !only || operation.name.includes(only))
    .flatMap((found) =>
      found.operation.benchmarks.flatMap((example) =>
        dtypeCombinations(found.operation).map((dtypes) => {
          const { flops, bytes } = costOf(found, example, dtypes);
          const roof = roofOf(ceilings, floatsOf(dtypes));
          const expected = leastMilliseconds(roof, flops, bytes) / expectedShare;
          const variants = subject.available(found).filter((variant) => variant.fits(example.dims, dtypes));
          return { found, example, dtypes, expected, variants };
        }),
      ),
    )
    .filter(({ variants }) => variants.length > 0);
}

/** The dtypes of a case, each once, but for those of indices. */
const floatsOf = (dtypes: Trial['dtypes']) => [...new Set(Object.values(dtypes))].filter((dtype) => dtype !== 'u32');

function costOf({ operation }: Discovered, { dims, scalars: given = {} }: Example, dtypes: Trial['dtypes']) {
  const scalars = resolveScalars(operation, dims, given);
  return { flops: operation.flops(dims, scalars), bytes: bytesMoved(operation, dims, dtypes, scalars) };
}

function reasonToSkip<K extends Kernel>(
  { largestTensor }: Subject<K>,
  { found, example, dtypes, expected }: Work<K>,
  quick: boolean,
): string | undefined {
  if (expected > longestDispatchMs[quick ? 'quick' : 'normal']) {
    return `a dispatch would take about ${expected.toFixed(0)} ms`;
  }
  // The engine would run such a tensor in blocks; a variant alone takes one buffer.
  return largestOf(found, example, dtypes) > largestTensor ? 'a tensor exceeds the largest binding' : undefined;
}

function largestOf({ operation }: Discovered, { dims }: Example, dtypes: Trial['dtypes']): number {
  const sizes = Object.entries(operation.tensors as Record<string, TensorContract>).map(
    ([name, contract]) =>
      storedBytes(dtypes[name]!, shapeOf(contract, dims)) + guardElements * storedElementBytes(dtypes[name]!),
  );
  return Math.max(...sizes);
}

/** One case on a device: its inputs several times over, and what is to come of them. */
class CaseBench<K extends Kernel> {
  readonly #backend: Subject<K>['backend'];
  readonly #found: Discovered;
  readonly #example: Example;
  readonly #trial: Trial;
  readonly #sample: ReturnType<typeof chooseSample>;
  readonly #sets: readonly Readonly<Record<string, RawTensor>>[];

  constructor({ backend }: Subject<K>, found: Discovered, example: Example, dtypes: Trial['dtypes']) {
    const { operation, reference } = found;
    this.#backend = backend;
    this.#found = found;
    this.#example = example;
    this.#sample = chooseSample(operation, example, seededRandom(2));
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
          const tensor = backend.allocate(name, isQuantised(dtype) ? 'u32' : dtype, [array.length]);
          backend.write(tensor, array);
          return [name, tensor];
        }),
      ),
    );
  }

  /** Verifies a variant, then times it. @throws Error where its result is wrong */
  async time(variant: K, ceilings: Ceilings, quick: boolean): Promise<Omit<KernelRow, keyof Key>> {
    const { scalars, dtypes } = this.#trial;
    const views = this.#sets.map((set) => this.#shaped(set));
    await this.#verify(variant);
    const queue = (i: number) => this.#backend.runVariant(variant, views[i % views.length]!, scalars);
    const effort = quick ? { minimumMs: 20, minimumRuns: 3 } : {};
    const { clock, ...timing } = await measureDispatches(this.#backend, queue, effort);
    const { flops, bytes } = costOf(this.#found, this.#example, dtypes);
    const roof = roofOf(ceilings, floatsOf(dtypes));
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
    await this.#backend.finish();
    for (const tensor of this.#sets.flatMap((set) => Object.values(set))) tensor[Symbol.dispose]();
  }

  async #verify(variant: K): Promise<void> {
    const { operation } = this.#found;
    const { before, expected, scalars } = this.#trial;
    const set = this.#sets[0]!;
    for (const name of Object.keys(expected)) this.#backend.write(set[name]!, before[name]!);
    this.#backend.runVariant(variant, this.#shaped(set), scalars);
    for (const name of Object.keys(expected)) {
      const after = await this.#backend.read(set[name]!);
      const seen = this.#sample ? onlySample(operation, this.#trial, name, after, this.#sample) : after;
      const problem = verify(operation, this.#trial, name, seen, variant.tolerance);
      if (problem) throw new Error(`${operation.name}/${variant.name} is wrong: ${problem}`);
    }
  }

  #shaped(set: Readonly<Record<string, RawTensor>>): Record<string, RawTensor> {
    const { tensors } = this.#found.operation;
    const { dims, dtypes } = this.#trial;
    return Object.fromEntries(
      Object.entries(set).map(([name, tensor]) => [name, tensor.view(shapeOf(tensors[name], dims), dtypes[name])]),
    );
  }
}
