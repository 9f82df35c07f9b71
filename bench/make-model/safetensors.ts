import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bitsPerElement, type StoredDType } from '../../engine/safetensors/header.ts';
import { jsonText } from './config.ts';

/** A tensor that is yet to be written: its bytes are made row by row when their turn comes. */
export interface PlannedTensor {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Fills `target` with whole rows from `firstRow` on, little-endian; its bytes begin on an element's boundary. */
  fillRows(target: Uint8Array, firstRow: number): void;
}

const indexName = 'model.safetensors.index.json';

/** Bytes that are made and written at a time, where a row is not longer. */
const chunkBytes = 2 ** 22;

/** The reference implementation orders tensors by dtype, and dtypes as they are listed here. */
const dtypeOrder = Object.keys(bitsPerElement);

export const bytesOf = ({ dtype, shape }: Pick<PlannedTensor, 'dtype' | 'shape'>): number =>
  (shape.reduce((product, size) => product * size, 1) * bitsPerElement[dtype]) / 8;

export const totalBytes = (tensors: readonly PlannedTensor[]): number =>
  tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);

/**
 * Writes a file as the reference implementation does: tensors by dtype, the last of `dtypeOrder` first, then by name;
 * the header padded to 8 bytes. Host memory holds two chunks, whatever the tensors' sizes.
 *
 * @param progress is told of the bytes of each chunk
 * @returns the file's size in bytes
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly PlannedTensor[],
  progress: (bytes: number) => void = () => {},
): Promise<number> {
  const ordered = [...tensors].sort(
    (a, b) => dtypeOrder.indexOf(b.dtype) - dtypeOrder.indexOf(a.dtype) || (a.name < b.name ? -1 : 1),
  );
  const header = headerOf(ordered);
  const file = await open(path, 'w');
  let writing: Promise<unknown> = file.writeFile(header);
  try {
    // One chunk is made while the other is written.
    let [next, busy] = [new Uint8Array(chunkBytes), new Uint8Array(chunkBytes)];
    for (const tensor of ordered) {
      const bytes = bytesOf(tensor);
      const rowBytes = bytes / (tensor.shape[0] ?? 1);
      const chunkRows = Math.max(1, Math.floor(chunkBytes / rowBytes));
      for (let row = 0; row * rowBytes < bytes; row += chunkRows) {
        const length = Math.min(chunkRows * rowBytes, bytes - row * rowBytes);
        if (next.length < length) next = new Uint8Array(length);
        const chunk = next.subarray(0, length);
        tensor.fillRows(chunk, row);
        await writing;
        writing = file.writeFile(chunk);
        progress(length);
        [next, busy] = [busy, next];
      }
    }
  } finally {
    await writing.finally(() => file.close());
  }
  return header.length + totalBytes(ordered);
}

/** The header of tensors whose bytes follow one another. */
function headerOf(tensors: readonly PlannedTensor[]): Uint8Array {
  let end = 0;
  const entries = tensors.map((tensor) => {
    const begin = end;
    end += bytesOf(tensor);
    return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, end] }];
  });
  const text = Buffer.from(JSON.stringify({ __metadata__: { format: 'pt' }, ...Object.fromEntries(entries) }));
  const padding = (8 - (text.length % 8)) % 8;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length + padding));
  return Buffer.concat([length, text, Buffer.alloc(padding, ' ')]);
}

/**
 * Tensors in as many groups as asked for, in their order, each with its share of the bytes as far as whole tensors
 * allow.
 *
 * @throws RangeError where there are fewer tensors than shards
 */
export function splitIntoShards(tensors: readonly PlannedTensor[], shards: number): PlannedTensor[][] {
  if (!(Number.isInteger(shards) && shards > 0 && shards <= tensors.length)) {
    throw new RangeError(
      `${tensors.length} tensors must go into 1 to ${tensors.length} shards, but ${shards} are asked for.`,
    );
  }
  const groups: PlannedTensor[][] = [];
  let from = 0;
  let left = totalBytes(tensors);
  for (let shard = 0; shard < shards; shard++) {
    const share = left / (shards - shard);
    const group: PlannedTensor[] = [];
    // Each shard gets a tensor, and leaves one for each that follows.
    while (from < tensors.length - (shards - shard - 1)) {
      const next = tensors[from]!;
      const last = shard === shards - 1;
      if (!last && group.length > 0 && totalBytes(group) + bytesOf(next) / 2 > share) break;
      group.push(next);
      from++;
    }
    left -= totalBytes(group);
    groups.push(group);
  }
  return groups;
}

/**
 * Writes `model.safetensors`, or as many shards as there are groups and their `model.safetensors.index.json`.
 *
 * @returns the files' sizes in bytes by name
 */
export async function writeWeights(
  folder: string,
  groups: readonly (readonly PlannedTensor[])[],
  progress?: (bytes: number) => void,
): Promise<Map<string, number>> {
  const files = new Map<string, number>();
  const weightMap: Record<string, string> = {};
  const number = (value: number) => String(value).padStart(5, '0');
  for (const [shard, group] of groups.entries()) {
    const name =
      groups.length === 1 ? 'model.safetensors' : `model-${number(shard + 1)}-of-${number(groups.length)}.safetensors`;
    for (const tensor of group) weightMap[tensor.name] = name;
    files.set(name, await writeSafetensors(join(folder, name), group, progress));
  }
  if (groups.length > 1) {
    const index = jsonText({ metadata: { total_size: totalBytes(groups.flat()) }, weight_map: weightMap });
    await writeFile(join(folder, indexName), index);
    files.set(indexName, Buffer.byteLength(index));
  }
  return files;
}
