import type { QuantisedDType } from '../../kernels/dtypes.ts';
import { quote } from '../../kernels/json.ts';
import { ModelError, reasonOf, SessionError } from '../errors.ts';
import { bitsPerElement, lengthBytes, parseHeader, readDataStart, type TensorInfo } from './header.ts';

export const defaultChunkBytes = 4 * 1024 * 1024;

export interface ReadTensorOptions {
  /** Checked before each chunk; reading then throws the signal's reason. */
  readonly signal?: AbortSignal;
  /** Bytes of every chunk but the last; 4 MiB by default, rounded down to whole elements and at least one. */
  readonly chunkBytes?: number;
  /** Whether no more than the first chunk is wanted. */
  readonly onlyFirst?: boolean;
}

/** Where the engine takes a model's weights from: files on a disk, or what a page fetches. */
export interface TensorSource extends AsyncDisposable {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** Bytes of all tensors together. */
  readonly totalBytes: number;
  /** The name of the file that holds a tensor, where there are files. */
  readonly fileOf?: (tensor: string) => string | undefined;
  /**
   * The tensor's bytes as they are stored, in order, each chunk a multiple of the element's size; none if it is empty.
   *
   * A chunk belongs to the source and is overwritten later: it is valid until the next one is asked for or the loop is
   * left. Several tensors may be read at the same time.
   */
  read(name: string, options?: ReadTensorOptions): AsyncIterable<Uint8Array>;
  /** What can be read besides, faster: any piece of a tensor, into memory that is at hand. */
  readonly pieces?: PieceSource;
  /** Of a quantised checkpoint: its matrices without the way over F32. */
  readonly blocks?: BlockSource;
}

/** Tensors of which any piece can be read, several at the same time. */
export interface PieceSource {
  /** Whether this tensor is one; others are read from end to end. */
  has(name: string): boolean;
  /** Fills targets, one after the other, with the tensor's bytes from `position` on. */
  read(name: string, position: number, targets: readonly Uint8Array[]): Promise<void>;
}

export interface BlockOptions {
  /** Rows of every piece but the last. */
  readonly rows: number;
  readonly signal?: AbortSignal;
}

/** Matrices that a checkpoint holds in few bits, in the blocks of the engine's own dtypes. */
export interface BlockSource {
  /** The dtype in which a matrix can be had; undefined where `TensorSource.read` is the only way. */
  dtypeOf(name: string): QuantisedDType | undefined;
  /** Its rows in order, as `Backend.writeRows` takes them: quants and parameters, valid until the next are asked for. */
  read(name: string, options: BlockOptions): AsyncIterable<readonly Uint8Array[]>;
}

/** A file that can be read at any position: a `FileHandle`, a `Blob`, ranges of a URL. */
export interface ByteFile {
  /** What messages call it. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /**
   * Fills `target`, which may lie in shared memory, from `position` as far as it can, and says how many bytes came: 0
   * only where the file has ended.
   */
  read(target: Uint8Array, position: number): Promise<number>;
  /** The same for several targets, in one go. */
  readMany?(targets: readonly Uint8Array[], position: number): Promise<number>;
  close(): Promise<void>;
}

/**
 * The tensors of one or several safetensors files.
 *
 * While a caller works on a chunk, the next is being read: each `read` under way holds two chunks of host memory, and
 * their buffers serve the following tensors.
 */
export class SafetensorsSource implements TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly totalBytes: number;
  readonly pieces: PieceSource;
  readonly fileOf: (tensor: string) => string | undefined;
  readonly #files: readonly ByteFile[];
  readonly #fileOf: ReadonlyMap<string, ByteFile>;
  readonly #spare: Uint8Array[] = [];
  #closed: Promise<unknown> | undefined;

  private constructor(
    files: readonly ByteFile[],
    tensors: ReadonlyMap<string, TensorInfo>,
    fileOf: Map<string, ByteFile>,
  ) {
    this.#files = files;
    this.#fileOf = fileOf;
    this.fileOf = (tensor) => fileOf.get(tensor)?.name;
    this.tensors = tensors;
    this.totalBytes = [...tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
    this.pieces = {
      has: (name) => tensors.has(name),
      read: async (name, position, targets) => {
        const [info, file] = this.#find(name);
        if (this.#closed) throw closed(file, name);
        await readFully(file, targets, info.begin + position, `tensor ${quote(name)}`);
      },
    };
  }

  /**
   * Reads the headers of `files` and takes them over: disposing the source closes them, and so does a failure here.
   *
   * @throws ModelError `safetensors-invalid` for a malformed file or a tensor that two of them hold, `read-failed`
   */
  static async open(files: readonly ByteFile[]): Promise<SafetensorsSource> {
    try {
      const tensors = new Map<string, TensorInfo>();
      const fileOf = new Map<string, ByteFile>();
      for (const file of files) {
        for (const [name, info] of await readHeader(file)) {
          const other = fileOf.get(name);
          if (other) {
            const message = `tensor ${quote(name)} must be in one file, but is in ${other.name} and ${file.name}.`;
            throw new ModelError('safetensors-invalid', message);
          }
          tensors.set(name, info);
          fileOf.set(name, file);
        }
      }
      return new SafetensorsSource(files, tensors, fileOf);
    } catch (error) {
      await closeAll(files);
      throw error;
    }
  }

  /**
   * @throws ModelError `tensor-missing` for a name that is not in `tensors`; `safetensors-invalid` where the file has
   *   become shorter since it was opened, `read-failed` where it cannot be read
   * @throws SessionError `disposed`; `invalid-argument` for `chunkBytes` that are no positive number
   */
  async *read(name: string, options: ReadTensorOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    const { signal, chunkBytes = defaultChunkBytes, onlyFirst = false } = options;
    const [info, file] = this.#find(name);
    if (!(chunkBytes >= 1)) {
      throw new SessionError('invalid-argument', `chunkBytes must be 1 or more, but is ${chunkBytes}.`);
    }
    const elementBytes = Math.ceil(bitsPerElement[info.dtype] / 8);
    const wholeElements = Math.max(elementBytes, chunkBytes - (chunkBytes % elementBytes));
    const bufferBytes = Math.min(Math.floor(wholeElements), info.end - info.begin);
    const end = onlyFirst ? info.begin + bufferBytes : info.end;

    // Two buffers in turn: one is in the caller's hands, the other is being filled.
    const buffers: Uint8Array[] = [];
    let position = info.begin;
    let turn = 0;
    const readNext = (): Promise<Uint8Array> | undefined => {
      if (position === end) return undefined;
      if (this.#closed) throw closed(file, name);
      signal?.throwIfAborted();
      buffers[turn] ??= this.#takeBuffer(bufferBytes);
      const chunk = buffers[turn]!.subarray(0, Math.min(bufferBytes, end - position));
      const filled = readFully(file, [chunk], position, `tensor ${quote(name)}`).then(() => chunk);
      // Awaited a chunk later; until then a failure must not count as unhandled.
      filled.catch(() => {});
      position += chunk.length;
      turn = 1 - turn;
      return filled;
    };

    let ahead: Promise<Uint8Array> | undefined;
    try {
      ahead = readNext();
      while (ahead) {
        const chunk: Uint8Array = await ahead;
        ahead = readNext();
        yield chunk;
      }
    } finally {
      // A buffer that is still being filled must not go to another reader.
      await ahead?.catch(() => {});
      this.#spare.push(...buffers);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= closeAll(this.#files);
    await this.#closed;
  }

  #find(name: string): readonly [TensorInfo, ByteFile] {
    const info = this.tensors.get(name);
    const file = this.#fileOf.get(name);
    if (info && file) return [info, file];
    throw new ModelError('tensor-missing', `the model has no tensor ${quote(name)}.`);
  }

  #takeBuffer(bytes: number): Uint8Array {
    const spare = this.#spare.pop();
    return spare && spare.length >= bytes ? spare : new Uint8Array(bytes);
  }
}

const closed = (file: ByteFile, tensor: string) =>
  new SessionError('disposed', `${file.name} was closed while ${quote(tensor)} was read.`);

async function readHeader(file: ByteFile): Promise<ReadonlyMap<string, TensorInfo>> {
  const start = new Uint8Array(Math.min(lengthBytes, file.size));
  await readFully(file, [start], 0, 'the header');
  const header = new Uint8Array(readDataStart(start, file.size, file.name));
  await readFully(file, [header], 0, 'the header');
  return parseHeader(header, file.size, file.name).tensors;
}

/** Fills targets, one after the other, from `position` on, in as many reads as the file takes. */
async function readFully(
  file: ByteFile,
  targets: readonly Uint8Array[],
  position: number,
  what: string,
): Promise<void> {
  if (targets.length > 1 && !file.readMany) {
    // Not a read for each: one may be a request to a server.
    const whole = new Uint8Array(targets.reduce((sum, { length }) => sum + length, 0));
    await readFully(file, [whole], position, what);
    targets.reduce((at, target) => {
      target.set(whole.subarray(at, at + target.length));
      return at + target.length;
    }, 0);
    return;
  }
  let rest = targets.filter(({ length }) => length > 0);
  for (let at = position; rest.length > 0; ) {
    let count: number;
    try {
      count = rest.length > 1 ? await file.readMany!(rest, at) : await file.read(rest[0]!, at);
    } catch (cause) {
      const message = `${file.name}: reading ${what} at byte ${at} failed: ${reasonOf(cause)}.`;
      throw new ModelError('read-failed', message, { cause });
    }
    if (count === 0) {
      throw new ModelError(
        'safetensors-invalid',
        `${file.name}: it ended at byte ${at} while ${what} was read, but had ${file.size} bytes when it was opened.`,
      );
    }
    at += count;
    rest = behind(rest, count);
  }
}

/** What is left of targets once their first bytes are filled. */
function behind(targets: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  const first = targets.findIndex(({ length }) => {
    if (left < length) return true;
    left -= length;
    return false;
  });
  return first === -1 ? [] : [targets[first]!.subarray(left), ...targets.slice(first + 1)];
}

/** Closes files; one that fails to close does not keep the others open. */
export async function closeAll(files: readonly (ByteFile | undefined)[]): Promise<void> {
  await Promise.allSettled(files.map((file) => file?.close()));
}
