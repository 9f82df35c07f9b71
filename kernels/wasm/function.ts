import { type Code, encodeModule, type FunctionBody, type MemoryType, unsigned, type ValueType } from './encoding.ts';
import { Address, addressesOf, I32 } from './scalars.ts';
import { like, storeCode, type Value } from './value.ts';

/** A local variable: an expression that reads it, and what may be assigned to. */
export type Variable<T extends Value> = T & { readonly local: number };

/** What functions take. */
export type ParameterTypes = readonly (typeof Address | typeof I32)[];

/** The parameters inside a function. */
export type Parameters<P extends ParameterTypes> = { readonly [K in keyof P]: Variable<InstanceType<P[K]>> };

/** What it is called with: a number may stand for an I32. */
type Arguments<P extends ParameterTypes> = {
  readonly [K in keyof P]: InstanceType<P[K]> | (P[K] extends typeof I32 ? number : never);
};

/** A function of the module, to be called by those after it. */
export interface Procedure<P extends ParameterTypes = ParameterTypes> {
  readonly index: number;
  readonly parameters: P;
}

/** `count` numbers from 0 on: what unrolled loops run over. */
export const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

const end = 0x0b;
const nothing = 0x40;

/**
 * The statements of a function, in the order of the calls. `let` and `set` work on variables; `for`, `while` and `if`
 * take what stands in their braces as a callback. Loops of TypeScript around them unroll.
 */
export class FunctionBuilder {
  readonly #parameters: readonly ValueType[];
  readonly #locals: ValueType[] = [];
  readonly #code: Code[] = [];

  constructor(parameters: readonly ValueType[]) {
    this.#parameters = parameters;
  }

  get body(): FunctionBody {
    return { parameters: this.#parameters, locals: this.#locals, code: this.#code };
  }

  /** A new variable with a first value. */
  let<T extends Value>(value: T): Variable<T> {
    const local = this.#parameters.length + this.#locals.length;
    this.#locals.push(value.type);
    const variable = Object.assign(like(value, readLocal(local)), { local });
    this.set(variable, value);
    return variable;
  }

  set<T extends Value>(variable: Variable<T>, value: T): void {
    this.#emit(value.code, [0x21, ...unsigned(variable.local)]);
  }

  /** `variable += step`, which pointers and counters do. */
  advance<T extends I32 | Address>(variable: Variable<T>, step: I32 | number): void {
    this.set(variable, variable.add(step) as T);
  }

  store(address: Address, value: Value, offset = 0): void {
    this.#emit(address.code, value.code, storeCode(value.type, offset));
  }

  /** The lower half of a number. */
  store16(address: Address, value: I32): void {
    this.#emit(address.code, value.code, [0x3b, 0, 0]);
  }

  if(condition: I32, then: () => void, otherwise?: () => void): void {
    this.#emit(condition.code, [0x04, nothing]);
    then();
    if (otherwise) {
      this.#emit([0x05]);
      otherwise();
    }
    this.#emit([end]);
  }

  while(condition: I32, body: () => void): void {
    // Tested once before, and then at the end: an iteration jumps once.
    this.if(condition, () => {
      this.#emit([0x03, nothing]);
      body();
      this.#emit(condition.code, [0x0d, 0, end]);
    });
  }

  /** Counts from `from` in steps while below `to`, both unsigned; the callback is given the counter. */
  for(from: I32 | number, to: I32 | number, step: I32 | number, body: (i: Variable<I32>) => void): void;
  for(from: Address, to: Address, step: I32 | number, body: (at: Variable<Address>) => void): void;
  for(from: I32 | Address | number, to: I32 | Address | number, step: I32 | number, body: (i: never) => void): void {
    const i = this.let<I32 | Address>(typeof from === 'number' ? I32.const(from) : from);
    const bound = typeof to === 'number' ? to : this.let<I32 | Address>(to);
    this.while(i.lt(bound as never), () => {
      body(i as never);
      this.advance(i, step);
    });
  }

  call<P extends ParameterTypes>({ index }: Procedure<P>, ...given: Arguments<P>): void {
    const values = (given as readonly (I32 | Address | number)[]).map((argument) =>
      typeof argument === 'number' ? I32.const(argument) : argument,
    );
    this.#emit(...values.map(({ code }) => code), [0x10, ...unsigned(index)]);
  }

  #emit(...parts: readonly Code[]): void {
    this.#code.push(...parts);
  }
}

const readLocal = (local: number): Code => [0x20, unsigned(local)];

/**
 * A module under construction. Inner loops belong in functions of their own: V8 replaces a function's quick first
 * code by optimised code only when it is called again, and finds registers for the variables of a small one.
 */
export class ModuleBuilder {
  readonly #memory: MemoryType;
  readonly #functions: FunctionBuilder[] = [];

  constructor(memory: MemoryType) {
    this.#memory = memory;
  }

  /** Adds a function of these parameters; `body` is given them in an array. */
  define<const P extends ParameterTypes>(
    parameters: P,
    body: (f: FunctionBuilder, given: Parameters<P>) => void,
  ): Procedure<P> {
    const given = parameters.map((type, local) => {
      const Parameter = type === Address ? addressesOf(this.#memory.bits) : I32;
      return Object.assign(new Parameter(readLocal(local)), { local });
    });
    const f = new FunctionBuilder(given.map(({ type }) => type));
    body(f, given as unknown as Parameters<P>);
    this.#functions.push(f);
    return { index: this.#functions.length - 1, parameters };
  }

  encode(): Uint8Array<ArrayBuffer> {
    return encodeModule(
      this.#functions.map(({ body }) => body),
      this.#memory,
    );
  }
}
