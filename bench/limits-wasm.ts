import { weightDTypes } from '../kernels/contract.ts';
import type { WasmFeature } from '../kernels/wasm/features.ts';
import { type FunctionBuilder, range } from '../kernels/wasm/function.ts';
import { type AnyWasmVariant, type KernelFrame, simpleKernel, wasmVariant } from '../kernels/wasm/kernel.ts';
import { sumOfLanes } from '../kernels/wasm/mathematics.ts';
import type { I32 } from '../kernels/wasm/scalars.ts';
import { F32x4, I32x4 } from '../kernels/wasm/vectors.ts';
import { type ArithmeticLoop, copying, type LimitKernels, multiplyAdd, reading } from './limits.ts';

/** Neighbours that a unit goes through, and bytes of it that an iteration does. */
const unitBytes = 64 * 1024;
const stepBytes = 64;
const unitsOf = ({ elements }: { readonly elements: number }) => Math.ceil((4 * elements) / unitBytes);

/** Runs over the vectors of a unit, some in each iteration. */
function eachVector(f: FunctionBuilder, unit: I32, body: (offset: I32, vector: number) => void): void {
  const begin = f.let(unit.mul(unitBytes));
  f.for(begin, begin.add(unitBytes), stepBytes, (at) => {
    for (const vector of range(stepBytes / 16)) body(at, vector);
  });
}

const copyKernel = simpleKernel(copying, unitsOf, (kernel, unit) => {
  const { f } = kernel;
  const [x, out] = [kernel.tensor('x'), kernel.tensor('out')];
  eachVector(f, unit, (at, vector) => f.store(out.add(at), F32x4.load(x.add(at), 16 * vector), 16 * vector));
});

const readKernel = simpleKernel(reading, unitsOf, (kernel, unit) => {
  const { f } = kernel;
  const x = kernel.tensor('x');
  const sums = range(stepBytes / 16).map(() => f.let(F32x4.const(0)));
  eachVector(f, unit, (at, vector) => f.set(sums[vector]!, sums[vector]!.add(F32x4.load(x.add(at), 16 * vector))));
  const sum = f.let(
    sums
      .map((s): F32x4 => s)
      .reduce((a, b) => a.add(b))
      .lane(0),
  );
  f.if(sum.gt(kernel.number('bound')), () => f.store(kernel.tensor('out'), sum));
});

/** A kind of arithmetic: `x * factor + addend` in the lanes of a vector. */
interface Arithmetic {
  readonly name: string;
  readonly dtypes: ArithmeticLoop<AnyWasmVariant>['dtypes'];
  readonly needs: readonly WasmFeature[];
  readonly flops: number;
  step(x: F32x4, factor: F32x4, addend: F32x4): F32x4;
}

const kinds: readonly Arithmetic[] = [
  {
    name: 'f32',
    dtypes: weightDTypes,
    needs: [],
    flops: 2 * 4,
    step: (x, factor, addend) => x.mul(factor).add(addend),
  },
  {
    name: 'f32',
    dtypes: weightDTypes,
    needs: ['relaxed-simd'],
    flops: 2 * 4,
    step: (x, factor, addend) => x.relaxedMadd(factor, addend),
  },
  {
    // The bits of the numbers, whatever they are as integers: four sums of two products each.
    name: '16-bit integers',
    dtypes: ['q8', 'q4'],
    needs: [],
    flops: 2 * 8,
    step: (x, factor, addend) =>
      I32x4.dot(x.asI32x4().asI16x8(), factor.asI32x4().asI16x8()).add(addend.asI32x4()).asF32x4(),
  },
];

/** Of the sixteen registers of x86 two hold what all chains share, and one is the engine's own. */
const chainCounts = [8, 12];
/** Steps in an iteration, so that counting is drowned in them. */
const steps = 4;

/** The chains of a unit, one number of `out`. */
function runChains(
  kernel: KernelFrame<(typeof multiplyAdd)['tensors'], (typeof multiplyAdd)['scalars']>,
  unit: I32,
  chains: number,
  step: Arithmetic['step'],
): void {
  const { f } = kernel;
  const factor = f.let(F32x4.splat(kernel.number('factor')));
  const addend = f.let(F32x4.splat(kernel.number('addend')));
  const start = f.let(F32x4.splat(unit.and(63).toF32()));
  const x = range(chains).map((chain) => f.let(start.add(F32x4.const(chain))));
  f.for(0, kernel.size('rounds'), 1, () => {
    for (const _ of range(steps)) for (const chain of x) f.set(chain, step(chain, factor, addend));
  });
  const sum = x.map((chain): F32x4 => chain).reduce((a, b) => a.add(b));
  f.store(kernel.tensor('out').add(unit.shl(2)), sumOfLanes(f, sum));
}

const loopOf = ({ name, dtypes, needs, flops, step }: Arithmetic, chains: number): ArithmeticLoop<AnyWasmVariant> => ({
  name,
  dtypes,
  variant: wasmVariant(multiplyAdd, {
    name: [name, ...needs, `on ${chains} chains`].join(' '),
    needs,
    stages: [
      {
        units: ({ invocations }) => invocations,
        emit: (_, main) => main((kernel) => kernel.eachUnit((unit) => runChains(kernel, unit, chains, step))),
      },
    ],
  }),
  flopsPerRound: steps * chains * flops,
});

/** The kernels that find the limits of the processor, as far as WebAssembly reaches them. */
export const wasmLimits = (features: ReadonlySet<WasmFeature>): LimitKernels<AnyWasmVariant> => ({
  copying: copyKernel,
  reading: readKernel,
  arithmetic: kinds
    .filter(({ needs }) => needs.every((feature) => features.has(feature)))
    .flatMap((kind) => chainCounts.map((chains) => loopOf(kind, chains))),
  invocations: 2 ** 12,
  rounds: 2 ** 12,
});
