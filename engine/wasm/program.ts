import type { AnyWasmVariant, Scratch } from '../../kernels/wasm/kernel.ts';
import type { Lifetime } from '../stored.ts';

/** Stages of kernels in memory, `stageWords` words each, to be run one after another. */
export interface Program {
  readonly address: number;
  readonly stages: number;
}

/** The words of a stage: the kernel's number, bytes from the program to its parameters, units, shares of them taken. */
export const stageWords = 4;

/** An operation with everything resolved. */
export interface Call {
  readonly variant: AnyWasmVariant;
  readonly scratch: Scratch;
  /** The number of each stage's kernel, and its units. */
  readonly stages: readonly { readonly kernel: number; readonly units: number }[];
  readonly parameters: Uint32Array;
  /** Lifetimes of its tensors. */
  readonly uses: readonly Lifetime[];
}

/** The words of a program that makes some calls: their stages, and behind them their parameters. */
export function programOf(calls: readonly Call[]): { readonly words: Uint32Array; readonly stages: number } {
  const stages = calls.flatMap(({ stages, parameters }) =>
    stages.filter(({ units }) => units > 0).map((stage) => ({ ...stage, parameters })),
  );
  const places = new Map<Uint32Array, number>();
  let length = stages.length * stageWords;
  for (const { parameters } of calls) {
    places.set(parameters, length);
    length += parameters.length;
  }
  const words = new Uint32Array(length);
  stages.forEach(({ kernel, units, parameters }, i) => {
    words.set([kernel, 4 * places.get(parameters)!, units, 0], i * stageWords);
  });
  for (const [parameters, at] of places) words.set(parameters, at);
  return { words, stages: stages.length };
}
