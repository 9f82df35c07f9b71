import {
  type AnyOperation,
  type HostArray,
  product,
  resolveScalars,
  shapeOf,
  type TensorContract,
} from '../kernels/contract.ts';
import type { AnyReference } from '../kernels/cpu.ts';
import type { Trial } from '../kernels/verification.ts';

/** Floating-point operations that the reference is given at most, some tenths of a second. */
const affordable = 5e7;

/** The parts of an operation that are verified, see `slices` of its contract; of `count` parts those in `chosen`. */
export interface Sample {
  readonly count: number;
  readonly chosen: readonly number[];
}

/** A random sample that the reference can afford, the first and the last part in it; undefined where it affords all. */
export function chooseSample(
  operation: AnyOperation,
  { dims, scalars = {} }: AnyOperation['cases'][number],
  random: () => number,
): Sample | undefined {
  const { slices = [], tensors, flops } = operation;
  const count = slices.map((axis) => dims[axis]!).reduce(greatestCommonDivisor, 0);
  const elements = Object.values(tensors as Record<string, TensorContract>)
    .filter(({ access }) => access !== 'read')
    .reduce((sum, contract) => sum + product(shapeOf(contract, dims)), 0);
  const share = affordable / Math.max(flops(dims, resolveScalars(operation, dims, scalars)), elements);
  if (share >= 1 || count < 3) return undefined;
  const chosen = new Set([0, count - 1]);
  while (chosen.size < share * count) chosen.add(Math.floor(random() * count));
  return { count, chosen: [...chosen].sort((a, b) => a - b) };
}

/** The operation's reference on a sample alone: the rest of what it writes stays as it was. */
export function sampledReference(operation: AnyOperation, reference: AnyReference, sample: Sample): AnyReference {
  const contracts = Object.entries(operation.tensors as Record<string, TensorContract>);
  return (whole, dims, scalars) => {
    const places = new Map(contracts.map(([name]) => [name, placesOf(operation, name, dims, sample)]));
    const part = Object.fromEntries(
      contracts.map(([name]) => {
        const array = whole[name] as Float64Array;
        const at = places.get(name);
        return [name, at ? array.slice(0, at.length).map((_, i) => array[at[i]!]!) : array];
      }),
    );
    const smaller = Object.fromEntries(
      (operation.slices ?? []).map((axis) => [axis, (dims[axis]! / sample.count) * sample.chosen.length]),
    );
    reference(part, { ...dims, ...smaller }, scalars);
    for (const [name, { access }] of contracts) {
      if (access === 'read') continue;
      places.get(name)?.forEach((place, i) => {
        whole[name]![place] = part[name]![i]!;
      });
    }
  };
}

/** `after` with everything outside the sample as it was before, as a `sampledReference` leaves it. */
export function onlySample<A extends HostArray>(
  operation: AnyOperation,
  trial: Trial,
  name: string,
  after: A,
  sample: Sample,
): HostArray {
  const places = placesOf(operation, name, trial.dims, sample);
  if (!places) return after;
  const seen = trial.before[name]!.slice();
  for (const place of places) seen[place] = after[place]!;
  const end = trial.expected[name]!.length;
  seen.set(after.subarray(end), end);
  return seen;
}

/** Where the elements of a sample lie in the whole of a tensor, in order; undefined where no axis of it is cut. */
function placesOf(
  { slices = [], tensors }: AnyOperation,
  name: string,
  dims: Readonly<Record<string, number>>,
  { count, chosen }: Sample,
): Uint32Array | undefined {
  const contract: TensorContract = tensors[name];
  if (!contract.axes.some((axis) => slices.includes(axis))) return undefined;
  let places = Uint32Array.of(0);
  shapeOf(contract, dims).forEach((size, i) => {
    const share = size / count;
    const along = slices.includes(contract.axes[i])
      ? chosen.flatMap((part) => Array.from({ length: share }, (_, n) => part * share + n))
      : Array.from({ length: size }, (_, n) => n);
    const next = new Uint32Array(places.length * along.length);
    places.forEach((place, p) => {
      along.forEach((n, a) => {
        next[p * along.length + a] = place * size + n;
      });
    });
    places = next;
  });
  return places;
}

const greatestCommonDivisor = (a: number, b: number): number => (b === 0 ? a : greatestCommonDivisor(b, a % b));
