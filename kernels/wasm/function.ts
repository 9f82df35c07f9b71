import { type Code, encodeModule, type FunctionBody, unsigned, type ValueType } from './encoding.ts';
import { I32, like, storeCode, type Value } from './values.ts';

/** A local variable: an expression that reads it, and what may be assigned to. */
export type Variable<T extends Value> = T & { readonly local: number };

/** A function of the module, to be called by those after it. */
export interface Procedure {
  readonly index: number;
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
  readonly #parameters: number;
  readonly #locals: ValueType[] = [];
  readonly #code: Code[] = [];

  constructor(parameters: number) {
    this.#parameters = parameters;
  }

  get body(): FunctionBody {
    return { parameters: this.#parameters, locals: this.#locals, code: this.#code };
  }

  parameter(index: number): Variable<I32> {
    return Object.assign(new I32([0x20, ...unsigned(index)]), { local: index });
  }

  /** A new variable with a first value. */
  let<T extends Value>(value: T): Variable<T> {
    const local = this.#parameters + this.#locals.length;
    this.#locals.push(value.type);
    const variable = Object.assign(like(value, [0x20, ...unsigned(local)]), { local });
    this.set(variable, value);
    return variable;
  }

  set<T extends Value>(variable: Variable<T>, value: T): void {
    this.#emit(value.code, [0x21, ...unsigned(variable.local)]);
  }

  /** `variable += step`, which pointers and counters do. */
  advance(variable: Variable<I32>, step: I32 | number): void {
    this.set(variable, variable.add(step));
  }

  store(address: I32, value: Value, offset = 0): void {
    this.#emit(address.code, value.code, storeCode(value.type, offset));
  }

  /** The lower half of a number. */
  store16(address: I32, value: I32): void {
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
  for(from: I32 | number, to: I32 | number, step: I32 | number, body: (i: Variable<I32>) => void): void {
    const i = this.let(I32.of(from));
    const bound = typeof to === 'number' ? to : this.let(to);
    this.while(i.lt(bound), () => {
      body(i);
      this.advance(i, step);
    });
  }

  call({ index }: Procedure, ...given: readonly (I32 | number)[]): void {
    this.#emit(...given.map((argument) => I32.of(argument).code), [0x10, ...unsigned(index)]);
  }

  #emit(...parts: readonly Code[]): void {
    this.#code.push(...parts);
  }
}

/**
 * A module under construction. Inner loops belong in functions of their own: V8 replaces a function's quick first
 * code by optimised code only when it is called again, and finds registers for the variables of a small one.
 */
export class ModuleBuilder {
  readonly #functions: FunctionBuilder[] = [];

  define(parameters: number, body: (f: FunctionBuilder, given: readonly Variable<I32>[]) => void): Procedure {
    const f = new FunctionBuilder(parameters);
    body(
      f,
      range(parameters).map((index) => f.parameter(index)),
    );
    this.#functions.push(f);
    return { index: this.#functions.length - 1 };
  }

  encode(sharedMemory: boolean): Uint8Array<ArrayBuffer> {
    return encodeModule(
      this.#functions.map(({ body }) => body),
      sharedMemory,
    );
  }
}
