/**
 * One loading, or one reading, of a model folder in a process of its own: what came of it, as JSON on standard output.
 * Run by bench/load.ts with the task as its argument.
 */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { WeightDType } from '../engine/index.ts';
import { openModelFolder } from '../engine/node/disk-folder.ts';
import { openDevice } from '../engine/node/open-device.ts';
import { loadWeights, weightBytes } from '../engine/weights.ts';
import { computedOn } from './environment.ts';
import type { ComputedOn, DeviceKind } from './schema.ts';

export type LoadTask = { readonly folder: string; readonly threads?: number } & (
  | { readonly kind: 'load'; readonly device: DeviceKind; readonly dtype: WeightDType }
  /** Reads into memory of the files' size, which is kept: what any loader has to do at the least. */
  | { readonly kind: 'keep' }
);

export interface ReadRun {
  readonly bytes: number;
  readonly readMs: number;
}

export interface LoadRun extends ReadRun {
  readonly on: ComputedOn;
  readonly loadMs: number;
  readonly deviceBytes: number;
  /** The most that the process grew by, less what is the device's where that is the host's memory too. */
  readonly hostBytes: number;
}

const chunkBytes = 4 * 2 ** 20;

/** Files of weights, one after another. */
async function weightFiles(folder: string): Promise<string[]> {
  await using opened = await openModelFolder(folder);
  return opened.files
    .map(({ name }) => name)
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => join(folder, name));
}

/** Milliseconds to read files from end to end, each piece to where `place` says. */
async function read(
  files: readonly string[],
  place: (position: number, bytes: number) => Uint8Array,
): Promise<ReadRun> {
  const handles: FileHandle[] = [];
  for (const file of files) handles.push(await open(file));
  const start = performance.now();
  let total = 0;
  for (const handle of handles) {
    for (let position = 0; ; ) {
      const { bytesRead } = await handle.read(place(total, chunkBytes), 0, chunkBytes, position);
      if (bytesRead === 0) break;
      position += bytesRead;
      total += bytesRead;
    }
  }
  const readMs = performance.now() - start;
  await Promise.all(handles.map((handle) => handle.close()));
  return { bytes: total, readMs };
}

/** Memory that begins on a page: some processors copy several times slower to elsewhere. */
function pages(bytes: number): Uint8Array {
  const { buffer } = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65_536) });
  return new Uint8Array(buffer);
}

async function keep(folder: string): Promise<ReadRun> {
  const files = await weightFiles(folder);
  await plainRead(files);
  const sizes = await Promise.all(files.map(async (file) => (await stat(file)).size));
  const memory = pages(sizes.reduce((a, b) => a + b, 0) + chunkBytes);
  return read(files, (position, bytes) => memory.subarray(position, position + bytes));
}

/** The same memory for every piece; the second time, when the files are in the page cache for certain. */
async function plainRead(files: readonly string[]): Promise<ReadRun> {
  const memory = pages(chunkBytes);
  await read(files, () => memory);
  return read(files, () => memory);
}

async function load(
  folder: string,
  device: DeviceKind,
  dtype: WeightDType,
  threads: number | undefined,
): Promise<LoadRun> {
  const before = await plainRead(await weightFiles(folder));
  await using opened = await openModelFolder(folder);
  const { config, source } = opened;
  const memoryNeeded = weightBytes(config, dtype);
  const { backend } = await openDevice(device, { memoryNeeded, ...(threads === undefined ? {} : { threads }) });
  await using _ = backend;
  const residentBefore = process.memoryUsage.rss();
  const start = performance.now();
  await loadWeights(backend, config, source, dtype);
  const loadMs = performance.now() - start;
  const { kind, software } = backend.description;
  const deviceBytes = backend.memory.liveBytes;
  const grown = process.resourceUsage().maxRSS * 1024 - residentBefore;
  const after = await plainRead(await weightFiles(folder));
  return {
    on: computedOn(backend.description),
    bytes: before.bytes,
    // The faster of two: the machine may have been busy with something else.
    readMs: Math.min(before.readMs, after.readMs),
    loadMs,
    deviceBytes,
    hostBytes: Math.max(0, grown - (kind === 'cpu' || software ? deviceBytes : 0)),
  };
}

const task: LoadTask = JSON.parse(process.argv[2]!);
const { folder, threads } = task;
const result = await (task.kind === 'keep' ? keep(folder) : load(folder, task.device, task.dtype, threads));
process.stdout.write(JSON.stringify(result));
