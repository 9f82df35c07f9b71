/**
 * The header of a safetensors file: 8 bytes that give the length of a JSON text in bytes (little-endian), the text,
 * then the tensors' bytes without holes. Checked as strictly as the reference implementation does
 * (huggingface/safetensors, `safetensors/src/tensor.rs`), and more so where the format's description asks for it.
 */

import { isObject, parseJson, quote } from '../../kernels/json.ts';
import { ModelError } from '../errors.ts';

/** Bits per element of every dtype that the format knows; the engine computes with F32, F16 and BF16 alone. */
export const bitsPerElement = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type StoredDType = keyof typeof bitsPerElement;

export interface TensorInfo {
  readonly name: string;
  readonly dtype: StoredDType;
  /** Sizes, slowest axis first; empty for a scalar. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. */
  readonly begin: number;
  /** The byte after the last. */
  readonly end: number;
}

export interface SafetensorsHeader {
  /** By name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` entry; empty where there is none. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Where the header ends and the first tensor begins, in bytes. */
  readonly dataStart: number;
}

/** Bytes that hold the header's length; the header's text follows them. */
export const lengthBytes = 8;
/** The format's own limit on the header's text. */
const maxHeaderBytes = 100_000_000;
// The header's object, a tensor's entry, its shape.
const maxDepth = 3;

/**
 * Where the tensors' bytes begin, read off the file's first 8 bytes: what a caller has to read before `parseHeader`.
 *
 * @throws ModelError `safetensors-invalid` where the length is beyond the file or the format's limit.
 */
export function readDataStart(start: Uint8Array, fileSize: number, source: string): number {
  if (start.length < lengthBytes || fileSize < lengthBytes) {
    const size = Math.min(start.length, fileSize);
    throw invalid(source, `a safetensors file begins with an 8-byte header length, but there are only ${size} bytes.`);
  }
  const length = new DataView(start.buffer, start.byteOffset, lengthBytes).getBigUint64(0, true);
  if (length <= BigInt(maxHeaderBytes) && lengthBytes + Number(length) <= fileSize) return lengthBytes + Number(length);

  if (new TextDecoder().decode(start.subarray(0, lengthBytes)) === 'version ') {
    throw invalid(source, 'this is a Git LFS pointer, not the file itself; run `git lfs pull` where it came from.');
  }
  throw invalid(
    source,
    `the header is said to be ${length} bytes long, but the file has ${fileSize} and the format allows ` +
      `${maxHeaderBytes}. It is truncated or no safetensors file; download it again.`,
  );
}

/**
 * Parses and checks the header of a safetensors file.
 *
 * @param bytes the file's beginning, at least as far as `readDataStart` says
 * @param fileSize the whole file's size in bytes, which the tensors must fill exactly
 * @param source what messages call the file
 * @throws ModelError `safetensors-invalid` that names the file, the tensor, what was expected and what came
 */
export function parseHeader(bytes: Uint8Array, fileSize: number, source: string): SafetensorsHeader {
  const dataStart = readDataStart(bytes, fileSize, source);
  if (bytes.length < dataStart) {
    throw invalid(source, `the header ends at byte ${dataStart}, but only ${bytes.length} bytes of it were read.`);
  }
  const { __metadata__: metadata = {}, ...entries } = parseText(bytes.subarray(lengthBytes, dataStart), source);
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === 'string')) {
    throw invalid(source, `__metadata__ must be an object of strings, but is ${quote(metadata)}.`);
  }
  const tensors = Object.entries(entries).map(([name, entry]) => parseTensor(name, entry, dataStart, fileSize, source));
  // The header may list them in any order. An empty tensor comes before the one that begins where it does.
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  checkCoverage(tensors, dataStart, fileSize, source);
  return {
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    metadata: metadata as Record<string, string>,
    dataStart,
  };
}

function parseText(text: Uint8Array, source: string): Record<string, unknown> {
  if (text[0] !== '{'.charCodeAt(0)) throw invalid(source, "the header's text must begin with '{'.");
  let header: unknown;
  try {
    header = parseJson(text, maxDepth);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw invalid(source, `the header must be JSON: ${reason}.`, { cause });
  }
  if (!isObject(header)) throw invalid(source, 'the header must be a JSON object.');
  return header;
}

function parseTensor(name: string, entry: unknown, dataStart: number, fileSize: number, source: string): TensorInfo {
  const fail = (message: string) => invalid(source, `tensor ${quote(name)}: ${message}`);
  if (!isObject(entry)) throw fail(`its entry must be an object, but is ${quote(entry)}.`);

  const { dtype, shape, data_offsets: offsets } = entry;
  if (!isStoredDType(dtype)) {
    throw fail(`the dtype must be one of ${Object.keys(bitsPerElement).join(', ')}, but is ${quote(dtype)}.`);
  }
  if (!isNaturalArray(shape)) throw fail(`the shape must be a list of whole numbers, but is ${quote(shape)}.`);
  if (!isNaturalArray(offsets) || offsets.length !== 2) {
    throw fail(`data_offsets must be two whole numbers, but is ${quote(offsets)}.`);
  }
  const [begin, end] = offsets as [number, number];
  const dataBytes = fileSize - dataStart;
  if (begin > end) throw fail(`it ends at byte ${end}, before it begins at ${begin}.`);
  if (end > dataBytes) {
    throw fail(`its bytes ${begin} to ${end} are out of range: the file has ${dataBytes} bytes of tensors. Truncated?`);
  }
  const bits = bitsIn(shape, bitsPerElement[dtype]);
  if (bits === undefined) throw fail(`a shape of ${quote(shape)} is larger than any file can be.`);
  if (bits !== (end - begin) * 8) {
    throw fail(`${dtype} of shape ${quote(shape)} takes ${bits / 8} bytes, but its offsets span ${end - begin}.`);
  }
  return { name, dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

/** Tensors in the order of their bytes must follow one another without overlap or hole, up to the end of the file. */
function checkCoverage(tensors: readonly TensorInfo[], dataStart: number, fileSize: number, source: string): void {
  let covered = dataStart;
  let previous = 'the header';
  for (const { name, begin, end } of tensors) {
    const wrong = begin < covered ? 'overlaps' : begin > covered ? 'leaves a hole after' : undefined;
    if (wrong) {
      throw invalid(
        source,
        `tensor ${quote(name)} ${wrong} ${previous}: it must begin at byte ${covered - dataStart} of the data, but ` +
          `begins at ${begin - dataStart}.`,
      );
    }
    covered = end;
    previous = quote(name);
  }
  if (covered !== fileSize) {
    throw invalid(source, `the file must end where its last tensor does, but ${fileSize - covered} bytes follow it.`);
  }
}

/** Bits that `shape` takes, or undefined beyond what a number holds exactly. */
function bitsIn(shape: readonly number[], bitsEach: number): number | undefined {
  let bits = bitsEach;
  for (const size of shape) {
    bits *= size;
    if (bits > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return bits;
}

function isStoredDType(value: unknown): value is StoredDType {
  return typeof value === 'string' && Object.hasOwn(bitsPerElement, value);
}

function isNaturalArray(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0 && !Object.is(item, -0));
}

function invalid(source: string, message: string, options?: ErrorOptions): ModelError {
  return new ModelError('safetensors-invalid', `${source}: ${message}`, options);
}
