import { chooseVariant } from '../../kernels/choice.ts';
import type { DType, Operation } from '../../kernels/contract.ts';
import { type AnyVariant, availableVariants, type DeviceTraits } from '../../kernels/webgpu.ts';
import type { KernelChoices } from '../backend.ts';
import type { Preference } from '../preference.ts';
import { shapeClass } from './shape-class.ts';
import { kernels } from './variants.ts';

/** An operation at its sizes, and the variant that runs it. */
interface Chosen {
  readonly variant: AnyVariant;
  readonly dtypes: Readonly<Record<string, DType>>;
  readonly dims: Readonly<Record<string, number>>;
  /** Sizes and scalars. */
  readonly values: Readonly<Record<string, number>>;
}

/** Which of the engine's kernels serves which shapes on one device: by name, by measurement, else by the default order. */
export class KernelChoice {
  readonly #variants: ReadonlyMap<string, readonly AnyVariant[]>;
  readonly #measured: Map<string, string>;
  readonly #prefer: Preference;

  constructor(traits: DeviceTraits, measured: KernelChoices, prefer: Preference) {
    this.#variants = new Map(Object.entries(kernels).map(([name, all]) => [name, availableVariants(all, traits)]));
    this.#measured = new Map(measured);
    this.#prefer = prefer;
  }

  /** Which variants were measured to be best, by class of shapes; see tune.ts. */
  get measured(): KernelChoices {
    return this.#measured;
  }

  set(shapes: string, variant: string | undefined): void {
    if (variant === undefined) this.#measured.delete(shapes);
    else this.#measured.set(shapes, variant);
  }

  /** @throws ContractError `no-variant` */
  choose(
    { name }: Pick<Operation, 'name'>,
    dims: Readonly<Record<string, number>>,
    dtypes: Readonly<Record<string, DType>>,
    scalars: Readonly<Record<string, number>>,
  ): AnyVariant {
    const preferred = this.#prefer[name] ?? this.#measured.get(shapeClass(name, dtypes, { ...scalars, ...dims }));
    return chooseVariant(this.#variants.get(name) ?? [], dims, dtypes, preferred);
  }

  /** See `Tunable.alternatives`. */
  alternatives(calls: readonly Chosen[], share: number): Map<string, readonly string[]> {
    const classes = new Map<string, { names: readonly string[]; flops: number }>();
    for (const { variant, dtypes, dims, values } of calls) {
      const { name, flops } = variant.operation;
      const shapes = shapeClass(name, dtypes, values);
      const open = name in this.#prefer ? [] : (this.#variants.get(name) ?? []);
      const others = open.filter((other) => other !== variant && !other.approximate && other.fits(dims, dtypes));
      const names = [variant, ...others].map((serving) => serving.name);
      classes.set(shapes, { names, flops: flops(dims, values) + (classes.get(shapes)?.flops ?? 0) });
    }
    const least = share * [...classes.values()].reduce((sum, { flops }) => sum + flops, 0);
    const worthwhile = [...classes].filter(([, { names, flops }]) => names.length > 1 && flops >= least);
    return new Map(worthwhile.map(([shapes, { names }]) => [shapes, names]));
  }
}
