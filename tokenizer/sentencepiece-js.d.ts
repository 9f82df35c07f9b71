/**
 * The parts of sentencepiece-js 1.1.0 that we use; the package has no types of its own. Objects of embind classes live
 * in the WebAssembly heap until `delete()`.
 */
declare module 'sentencepiece-js' {
  export interface Handle {
    delete(): void;
  }
  export interface StringView extends Handle {
    /** Points into the `StringView`'s memory and must be deleted before it. */
    getView(): Handle;
  }
  export interface Status extends Handle {
    ToString(): string;
  }
  export interface VectorInt extends Handle {
    size(): number;
    get(index: number): number;
  }
  /** The C++ `sentencepiece::SentencePieceProcessor`. */
  export interface NativeProcessor extends Handle {
    Load(path: Handle): Status;
    EncodeAsIds(text: Handle): VectorInt;
  }
  /** The emscripten module. */
  export interface SentencePieceModule {
    readonly FS: { writeFile(path: string, data: Uint8Array): void; unlink(path: string): void };
    /** Bytes are taken as UTF-8, NUL included. */
    readonly StringView: new (
      text: string | Uint8Array,
    ) => StringView;
    readonly SentencePieceProcessor: new () => NativeProcessor;
    readonly HEAP8: Int8Array;
  }
  export class SentencePieceProcessor {
    /** The emscripten module, once `load` has started it. */
    sentencepiece?: SentencePieceModule;
    load(path: string): Promise<void>;
  }
}

/** The package itself, or what build.ts makes of it for pages: package.json leads to one of the two. */
declare module '#sentencepiece' {
  export { SentencePieceProcessor } from 'sentencepiece-js';
}
