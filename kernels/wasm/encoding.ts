/**
 * The binary form of WebAssembly, as far as kernels need it: modules of functions over one imported memory. Numbers and
 * layouts follow the WebAssembly Core Specification 3.0, chapter 5.
 */
export type Bytes = readonly number[];

/** Bytes that are put together of parts, which stay where they are until all are written, once. */
export type Code = readonly (number | Code)[];

function flatten(code: Code, bytes: number[] = []): number[] {
  for (const part of code) {
    if (typeof part === 'number') bytes.push(part);
    else flatten(part, bytes);
  }
  return bytes;
}

/** An unsigned number in LEB128 (5.2.2). */
export function unsigned(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
  return [...bytes, value];
}

/** A signed number of at most 32 bits in LEB128. */
export function signed(value: number): number[] {
  const bytes: number[] = [];
  for (; value < -0x40 || value >= 0x40; value >>= 7) bytes.push((value & 0x7f) | 0x80);
  return [...bytes, value & 0x7f];
}

/** The bytes of f32 or i32 numbers, little-endian. */
export const f32Bytes = (...values: number[]): number[] => [...new Uint8Array(Float32Array.from(values).buffer)];
export const i32Bytes = (...values: number[]): number[] => [...new Uint8Array(Int32Array.from(values).buffer)];

/** Value types (5.3). */
const valueTypes = { i32: 0x7f, i64: 0x7e, f32: 0x7d, v128: 0x7b } as const;
export type ValueType = keyof typeof valueTypes;

/** A function that returns nothing. */
export interface FunctionBody {
  readonly parameters: readonly ValueType[];
  /** Types of the locals after the parameters. */
  readonly locals: readonly ValueType[];
  readonly code: Code;
}

function sized(code: Code): Code {
  const bytes = flatten(code);
  return [unsigned(bytes.length), bytes];
}
const vector = (items: readonly Code[]): Code => [unsigned(items.length), items];
const section = (id: number, items: readonly Code[]): Code => [id, sized(vector(items))];
const name = (text: string): Code => sized([...new TextEncoder().encode(text)]);

/** The memory that a module works in. */
export interface MemoryType {
  readonly shared: boolean;
  /** Of its addresses. */
  readonly bits: 32 | 64;
}

export const pageBytes = 65_536;
/** Pages that a memory has at most: 4 GiB, and 16 GiB (WebAssembly JavaScript Interface 3.0, 8.1). */
export const mostPages = { 32: 65_536, 64: 262_144 } as const;

/** Flags and bounds, in pages (5.3.8): a shared memory has an upper bound, which is at least that of what is imported. */
function limits({ shared, bits }: MemoryType): Code {
  const flags = bits === 64 ? 0x04 : 0;
  return shared ? [flags | 0x03, unsigned(1), unsigned(mostPages[bits])] : [flags, unsigned(1)];
}

/** A module that imports `env.memory` and exports its last function as `run`. */
export function encodeModule(functions: readonly FunctionBody[], memory: MemoryType): Uint8Array<ArrayBuffer> {
  const signatures = functions.map(({ parameters }) => parameters.join());
  const distinct = [...new Set(signatures)];
  const types = distinct.map((signature) => {
    const { parameters } = functions[signatures.indexOf(signature)]!;
    return [0x60, vector(parameters.map((type) => [valueTypes[type]])), vector([])];
  });
  const code = functions.map(({ locals, code }) => {
    const declarations = locals.map((type) => [unsigned(1), valueTypes[type]]);
    return sized([vector(declarations), code, 0x0b]);
  });
  return Uint8Array.from(
    flatten([
      [0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // "\0asm", version 1
      section(1, types),
      section(2, [[name('env'), name('memory'), 0x02, limits(memory)]]),
      section(
        3,
        signatures.map((signature) => unsigned(distinct.indexOf(signature))),
      ),
      section(7, [[name('run'), 0x00, unsigned(functions.length - 1)]]),
      section(10, code),
    ]),
  );
}
