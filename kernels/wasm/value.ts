import { type Code, unsigned, type ValueType } from './encoding.ts';

/**
 * Typed expressions. A value is the instructions that leave it on the stack, and an operator puts its instruction
 * after those of its operands: an expression written in TypeScript is the WebAssembly that computes it, under the
 * names of the instructions. An expression used twice is computed twice; `FunctionBuilder.let` keeps it.
 *
 * Opcodes: WebAssembly Core Specification 2.0, 5.4; `relaxedMadd`, `relaxedDot`: the relaxed SIMD proposal.
 */
export abstract class Value {
  abstract readonly type: ValueType;
  readonly code: Code;

  constructor(code: Code) {
    this.code = code;
  }
}

/** Another expression of the type of `value`. */
export function like<T extends Value>(value: T, code: Code): T {
  return new (value.constructor as new (code: Code) => T)(code);
}

/** An instruction behind its operands. */
export const after = (operands: readonly Value[], ...opcode: Code): Code => [
  ...operands.map(({ code }) => code),
  ...opcode,
];
/** Vector instructions have numbers of their own behind a prefix. */
export const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];
/** What follows the opcode of a load or store: no alignment is promised, and `offset` is added to the address. */
export const place = (offset: number): number[] => [0, ...unsigned(offset)];

export const storeCode = (type: ValueType, offset: number): number[] => [
  ...{ i32: [0x36], i64: [0x37], f32: [0x38], v128: simd(11) }[type],
  ...place(offset),
];
