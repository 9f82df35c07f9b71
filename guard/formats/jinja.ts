import { Environment, Interpreter, parse, type RuntimeValue, type Statement, tokenize } from '@huggingface/jinja';

/** Bounds on what a template of a stranger may do. Templates of chat models take some thousand steps. */
const limits = { template: 64 * 1024, steps: 200_000, text: 1024 * 1024, items: 10_000 } as const;

/** Every step passes through `evaluate`, so that endless loops and growing values end here. */
class BoundedInterpreter extends Interpreter {
  #steps = 0;

  override evaluate(statement: Statement | undefined, environment: Environment): RuntimeValue {
    if (++this.#steps > limits.steps) throw new RangeError(`it takes more than ${limits.steps} steps`);
    const value = super.evaluate(statement, environment);
    if (typeof value.value === 'string' && value.value.length > limits.text) {
      throw new RangeError(`it makes a text of more than ${limits.text} characters`);
    }
    if (Array.isArray(value.value) && value.value.length > limits.items) {
      throw new RangeError(`it makes a list of more than ${limits.items} items`);
    }
    return value;
  }
}

/**
 * Renders a Jinja template as `apply_chat_template` of transformers does. Templates compute on what they are given and
 * reach nothing else; what they may take of time and memory is bounded.
 * @throws Error that says what is wrong with the template
 */
export function renderTemplate(template: string, variables: Readonly<Record<string, unknown>>): string {
  if (template.length > limits.template) {
    throw new RangeError(`it has ${template.length} characters, more than ${limits.template}`);
  }
  // As transformers compile chat templates.
  const program = parse(tokenize(template, { lstrip_blocks: true, trim_blocks: true }));
  const environment = new Environment();
  const globals = {
    true: true,
    false: false,
    none: null,
    raise_exception: (message: unknown) => {
      throw new Error(`it raises ${JSON.stringify(message)}`);
    },
    range: (...bounds: unknown[]) => range(bounds),
  };
  for (const [name, value] of Object.entries({ ...globals, ...variables })) environment.set(name, value);
  return String(new BoundedInterpreter(environment).run(program).value);
}

/** Python's `range`, of a bounded length. */
function range(bounds: readonly unknown[]): number[] {
  // Keyword arguments come as a last object.
  const numbers = bounds.filter((bound) => typeof bound === 'number');
  const [first = 0, second, step = 1] = numbers;
  const [from, to] = second === undefined ? [0, first] : [first, second];
  const count = Math.ceil((to - from) / step);
  if (!(count <= limits.items)) throw new RangeError(`it counts to ${count}, beyond ${limits.items}`);
  return Array.from({ length: Math.max(0, count) }, (_, i) => from + i * step);
}
