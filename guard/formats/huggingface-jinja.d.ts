/**
 * The parts of @huggingface/jinja 0.5 that we use: its own declarations import one another without the file extensions
 * that ECMAScript modules are resolved by.
 */
declare module '@huggingface/jinja' {
  /** A node of the syntax tree. */
  export interface Statement {
    readonly type: string;
  }
  export interface RuntimeValue {
    readonly type: string;
    readonly value: unknown;
  }
  /** A scope. */
  export class Environment {
    set(name: string, value: unknown): RuntimeValue;
  }
  export class Interpreter {
    constructor(environment?: Environment);
    run(program: Statement): RuntimeValue;
    evaluate(statement: Statement | undefined, environment: Environment): RuntimeValue;
  }
  export interface Token {
    readonly type: string;
    readonly value: string;
  }
  export function tokenize(
    source: string,
    options?: { readonly lstrip_blocks?: boolean; readonly trim_blocks?: boolean },
  ): Token[];
  export function parse(tokens: Token[]): Statement;
}
