/**
 * Writes GGUF version 3, the file format of llama.cpp (ggml's docs/gguf.md): a header of typed key-value pairs and
 * tensor descriptions, then the tensors' bytes, each aligned. All little-endian.
 */
import { type FileHandle, open } from 'node:fs/promises';

/** Tensor types by ggml's numbers; q8_0 has blocks of 32 numbers: an f16 scale, then 32 int8. */
export const ggmlType = { f32: 0, f16: 1, q8_0: 8 } as const;
export type GgufDType = keyof typeof ggmlType;

/** A row of q8_0 consists of whole blocks of so many numbers. */
export const q8Block = 32;
const q8BlockBytes = 2 + q8Block;

/** Metadata; a bare number is an unsigned 32-bit one, and a list's element type is its first element's. */
export type GgufValue =
  | string
  | boolean
  | number
  | { readonly float32: number }
  | readonly string[]
  | { readonly float32s: readonly number[] }
  | { readonly int32s: readonly number[] };

export interface GgufTensor {
  readonly name: string;
  readonly dtype: GgufDType;
  /** Slowest axis first, as everywhere else in this project; the file has them the other way round. */
  readonly shape: readonly number[];
  /** The tensor's bytes; asked for when its turn comes, so that one at a time is in memory. */
  readonly bytes: () => Promise<Uint8Array>;
}

/** The format's own types of values, by its numbers. */
const valueType = { uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, array: 9 } as const;
const alignment = 32;

export async function writeGguf(
  path: string,
  metadata: Readonly<Record<string, GgufValue>>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const file = await open(path, 'w');
  try {
    const header = new ByteWriter();
    header.bytes(Buffer.from('GGUF'));
    header.uint32(3);
    header.uint64(tensors.length);
    header.uint64(Object.keys(metadata).length);
    for (const [key, value] of Object.entries(metadata)) {
      header.string(key);
      writeValue(header, value);
    }
    let offset = 0;
    for (const { name, dtype, shape } of tensors) {
      header.string(name);
      header.uint32(shape.length);
      for (const size of [...shape].reverse()) header.uint64(size);
      header.uint32(ggmlType[dtype]);
      header.uint64(offset);
      offset += padded(tensorBytes(dtype, shape));
    }
    await append(file, header.take());
    for (const { name, dtype, shape, bytes } of tensors) {
      const data = await bytes();
      const expected = tensorBytes(dtype, shape);
      if (data.length !== expected)
        throw new RangeError(`${name} must have ${expected} bytes, but has ${data.length}.`);
      await append(file, data);
    }
  } finally {
    await file.close();
  }
}

function tensorBytes(dtype: GgufDType, shape: readonly number[]): number {
  const elements = shape.reduce((product, size) => product * size, 1);
  if (dtype === 'q8_0') return (elements / q8Block) * q8BlockBytes;
  return elements * (dtype === 'f16' ? 2 : 4);
}

const padded = (bytes: number) => Math.ceil(bytes / alignment) * alignment;

async function append(file: FileHandle, bytes: Uint8Array): Promise<void> {
  await file.writeFile(bytes);
  await file.writeFile(new Uint8Array(padded(bytes.length) - bytes.length));
}

function writeValue(to: ByteWriter, value: GgufValue): void {
  if (typeof value === 'string') {
    to.uint32(valueType.string);
    to.string(value);
  } else if (typeof value === 'boolean') {
    to.uint32(valueType.bool);
    to.bytes(Uint8Array.of(value ? 1 : 0));
  } else if (typeof value === 'number') {
    to.uint32(valueType.uint32);
    to.uint32(value);
  } else if ('float32' in value) {
    to.uint32(valueType.float32);
    to.bytes(new Uint8Array(Float32Array.of(value.float32).buffer));
  } else if ('float32s' in value) {
    writeArray(to, valueType.float32, value.float32s.length);
    to.bytes(new Uint8Array(Float32Array.from(value.float32s).buffer));
  } else if ('int32s' in value) {
    writeArray(to, valueType.int32, value.int32s.length);
    to.bytes(new Uint8Array(Int32Array.from(value.int32s).buffer));
  } else {
    writeArray(to, valueType.string, value.length);
    for (const text of value) to.string(text);
  }
}

function writeArray(to: ByteWriter, elementType: number, length: number): void {
  to.uint32(valueType.array);
  to.uint32(elementType);
  to.uint64(length);
}

class ByteWriter {
  readonly #parts: Uint8Array[] = [];

  bytes(part: Uint8Array): void {
    this.#parts.push(part);
  }

  uint32(value: number): void {
    this.bytes(new Uint8Array(Uint32Array.of(value).buffer));
  }

  uint64(value: number): void {
    this.bytes(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  /** UTF-8 behind its length in bytes. */
  string(text: string): void {
    const bytes = Buffer.from(text);
    this.uint64(bytes.length);
    this.bytes(bytes);
  }

  take(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}
