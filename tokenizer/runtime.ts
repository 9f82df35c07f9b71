import type { Handle, NativeProcessor, SentencePieceModule, VectorInt } from 'sentencepiece-js';
import { TokenizerError } from './errors.ts';
import { invalid } from './model-proto.ts';

/** Where the model lies in the WebAssembly instance's own file system. */
const MODEL_PATH = 'tokenizer.model';

/**
 * SentencePiece in WebAssembly, with one model loaded: all that knows the ways of the package `sentencepiece-js`.
 *
 * Each runtime is a WebAssembly instance of its own. A trap leaves an instance in no state to be relied on, so the first
 * one is the last: from then on every call is refused.
 */
export class SentencePieceRuntime implements Disposable {
  readonly #module: SentencePieceModule;
  readonly #processor: NativeProcessor;
  #state: 'ready' | 'failed' | 'disposed' = 'ready';

  private constructor(module: SentencePieceModule, processor: NativeProcessor) {
    this.#module = module;
    this.#processor = processor;
  }

  /**
   * @param model the bytes of a `tokenizer.model`, already validated
   * @throws {TokenizerError} `tokenizer-invalid` if SentencePiece refuses the model, `tokenizer-failed` if WebAssembly
   * cannot be started
   */
  static async start(model: Uint8Array): Promise<SentencePieceRuntime> {
    const module = await startModule();
    module.FS.writeFile(MODEL_PATH, model);
    try {
      return new SentencePieceRuntime(
        module,
        keepingExitCode(() => loadModel(module)),
      );
    } catch (error) {
      throw error instanceof TokenizerError ? error : invalid('SentencePiece fails on it', error);
    } finally {
      module.FS.unlink(MODEL_PATH);
    }
  }

  /** The ids of a text in UTF-8. @throws {TokenizerError} `tokenizer-failed`, `disposed` */
  encode(utf8: Uint8Array): number[] {
    return this.#withIds(utf8, (ids) => {
      const length = ids.size();
      const copy = new Array<number>(length);
      for (let index = 0; index < length; index++) copy[index] = ids.get(index);
      return copy;
    });
  }

  /** How many ids a text in UTF-8 has. @throws {TokenizerError} `tokenizer-failed`, `disposed` */
  count(utf8: Uint8Array): number {
    return this.#withIds(utf8, (ids) => ids.size());
  }

  /** Size of the WebAssembly heap in bytes. It grows with the longest text and never shrinks. */
  get heapBytes(): number {
    return this.#module.HEAP8.buffer.byteLength;
  }

  /** @throws {TokenizerError} `disposed` */
  assertLive(): void {
    if (this.#state === 'disposed') throw new TokenizerError('disposed', 'the tokenizer was used after its disposal');
  }

  /** Frees the model; a second call does nothing. */
  [Symbol.dispose](): void {
    // A failed instance is not called again, not even to clean up; it goes with its heap when it is collected.
    if (this.#state === 'ready') this.#processor.delete();
    this.#state = 'disposed';
  }

  #withIds<Result>(utf8: Uint8Array, use: (ids: VectorInt) => Result): Result {
    this.assertLive();
    if (this.#state === 'failed') {
      throw new TokenizerError('tokenizer-failed', 'SentencePiece failed on an earlier text; load the tokenizer again');
    }
    try {
      return keepingExitCode(() =>
        withView(this.#module, ofThisRealm(utf8), (view) => {
          const ids = this.#processor.EncodeAsIds(view);
          const result = use(ids);
          ids.delete();
          return result;
        }),
      );
    } catch (cause) {
      this.#state = 'failed';
      throw new TokenizerError(
        'tokenizer-failed',
        `SentencePiece failed on a text of ${utf8.length} bytes (${cause}); load the tokenizer again`,
        { cause },
      );
    }
  }
}

/**
 * Starts a WebAssembly instance with no model in it. The package offers only `load(path)`, which starts the instance and
 * then reads a file: loading a path that cannot exist stops between the two, and leaves the instance. So models come as
 * bytes, from anywhere, and the status of loading them, which `load` throws away, can be read.
 */
async function startModule(): Promise<SentencePieceModule> {
  // Imported on use: it is 760 KB of source, and some pages bring token ids of their own.
  const { SentencePieceProcessor } = await import('#sentencepiece');
  const loader = new SentencePieceProcessor();
  const cause = await withoutProcessHandlers(() =>
    loader.load('').then(
      () => undefined,
      (error: unknown) => error,
    ),
  );
  if (loader.sentencepiece === undefined) {
    throw new TokenizerError('tokenizer-failed', 'SentencePiece needs WebAssembly, and it did not start', { cause });
  }
  return loader.sentencepiece;
}

/**
 * The same memory under this realm's own `Uint8Array`, the only one that embind takes: in a `vm` context (Jest runs tests
 * in one) `TextEncoder` and files give those of another realm.
 */
function ofThisRealm(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function loadModel(module: SentencePieceModule): NativeProcessor {
  const processor = new module.SentencePieceProcessor();
  const status = withView(module, MODEL_PATH, (path) => processor.Load(path));
  const message = status.ToString();
  status.delete();
  if (message === 'OK') return processor;
  processor.delete();
  throw invalid(`SentencePiece says "${message.trim()}"`);
}

/**
 * Lends `text` to C++ as an `absl::string_view`. There is no `finally`: what throws here is a trap in WebAssembly, after
 * which nothing in that heap may be touched.
 */
function withView<Result>(
  module: SentencePieceModule,
  text: string | Uint8Array,
  use: (view: Handle) => Result,
): Result {
  const owner = new module.StringView(text);
  const view = owner.getView();
  const result = use(view);
  view.delete();
  owner.delete();
  return result;
}

/** SentencePiece leaves by `exit(-1)` on a failed assertion, which emscripten turns into an exception and an exit code. */
function keepingExitCode<Result>(run: () => Result): Result {
  const { process } = globalThis as Partial<typeof globalThis>;
  const exitCode = process?.exitCode;
  try {
    return run();
  } catch (error) {
    if (process) process.exitCode = exitCode;
    throw error;
  }
}

/**
 * emscripten's start-up code installs process-wide handlers that rethrow every uncaught exception and every unhandled
 * rejection, which is not for a library to decide. This takes them away again, and only them: they are known by being
 * new and by their source, since others may install handlers in the meantime.
 */
async function withoutProcessHandlers<Result>(start: () => Promise<Result>): Promise<Result> {
  const { process } = globalThis as Partial<typeof globalThis>;
  if (typeof process?.listeners !== 'function') return start();
  const exceptionHandlers = new Set(process.listeners('uncaughtException'));
  const rejectionHandlers = new Set(process.listeners('unhandledRejection'));
  const result = await start();
  for (const handler of process.listeners('uncaughtException')) {
    if (!exceptionHandlers.has(handler) && /^function\s*\((\w+)\)\s*{\s*if\s*\(!\(\1 instanceof /.test(`${handler}`)) {
      process.off('uncaughtException', handler);
    }
  }
  for (const handler of process.listeners('unhandledRejection')) {
    if (!rejectionHandlers.has(handler) && /^function\s*\((\w+)\)\s*{\s*throw \1;?\s*}$/.test(`${handler}`)) {
      process.off('unhandledRejection', handler);
    }
  }
  return result;
}
