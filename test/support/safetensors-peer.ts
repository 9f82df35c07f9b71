import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

/** A tensor as the reader found it. */
export interface PeerTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

interface Reader {
  readonly metadata: Map<string, { dtype: string; shape: number[] }>;
  getTensor(name: string): Uint8Array;
}

const { SafeTensor } = createRequire(import.meta.url)('safetensors') as {
  SafeTensor: new (bytes: Uint8Array) => Reader;
};

/** The tensors of a file by npm's `safetensors`, which shares no code with ours. It has no types of its own. */
export function readWithPeer(bytes: Uint8Array): Map<string, PeerTensor> {
  const reader = new SafeTensor(withoutMetadata(bytes));
  return new Map(
    [...reader.metadata].map(([name, { dtype, shape }]) => [name, { dtype, shape, bytes: reader.getTensor(name) }]),
  );
}

export const readFileWithPeer = async (path: string): Promise<Map<string, PeerTensor>> =>
  readWithPeer(await readFile(path));

/** The file with a header that lacks `__metadata__`, which version 0.0.1 cannot cope with, in a buffer of its own. */
function withoutMetadata(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const start = 8 + Number(view.getBigUint64(0, true));
  const { __metadata__, ...entries } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start)));
  const header = new TextEncoder().encode(JSON.stringify(entries));
  const result = new Uint8Array(8 + header.length + bytes.length - start);
  new DataView(result.buffer).setBigUint64(0, BigInt(header.length), true);
  result.set(header, 8);
  result.set(bytes.subarray(start), 8 + header.length);
  return result;
}

/** The numbers of a float tensor, decoded one by one from the formats' definitions. */
export function floatsOf({ dtype, bytes }: PeerTensor): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  switch (dtype) {
    case 'F32':
      return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
    case 'F16':
      return Float64Array.from({ length: bytes.length / 2 }, (_, i) => float(view.getUint16(2 * i, true), 5, 10));
    case 'BF16':
      return Float64Array.from({ length: bytes.length / 2 }, (_, i) => float(view.getUint16(2 * i, true), 8, 7));
    case 'F8_E4M3':
      return Float64Array.from(bytes, (bits) => float(bits, 4, 3));
    default:
      throw new RangeError(`${dtype} holds no floating-point numbers.`);
  }
}

/** A number of one sign bit, so many bits of exponent and of fraction; finite ones alone. */
export function float(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >> (exponentBits + fractionBits) ? -1 : 1;
  const exponent = (bits >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}
