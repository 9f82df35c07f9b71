import { type QuantisedDType, quantBlock, quantisedFormats } from '../../kernels/dtypes.ts';
import { quote } from '../../kernels/json.ts';
import { expectedTensors, type LlamaConfig } from '../config.ts';
import { ModelError, SessionError } from '../errors.ts';
import { firstOfEachCode, type Problems } from '../problems.ts';
import { subjectOf } from '../safetensors/check.ts';
import { floatDTypes } from '../safetensors/convert.ts';
import type { TensorInfo } from '../safetensors/header.ts';
import {
  type BlockOptions,
  type BlockSource,
  defaultChunkBytes,
  type PieceSource,
  type ReadTensorOptions,
  type TensorSource,
} from '../safetensors/source.ts';
import type { Part, QuantisedBuild, StoredPart } from './build.ts';
import type { QuantisedMatrix } from './matrix.ts';

/** A matrix by the tensors that stand for it. */
interface Module {
  readonly outputs: number;
  readonly inputs: number;
  readonly parts: ReadonlyMap<string, TensorInfo>;
  /** A bias that the architecture has no place for: AutoGPTQ wrote one of zeros for every projection. */
  readonly strayBias: TensorInfo | undefined;
}

/**
 * A quantised checkpoint under the names and shapes that its architecture has: matrices are F32, decoded while they are
 * read, or blocks of the engine's dtypes; what it keeps whole is as it was. Disposing it disposes `stored`.
 *
 * Host memory: the tensors of a matrix are taken into memory whole, since GPTQ and AWQ store matrices the other way round:
 * 23 MB for the largest of Llama 2 7B, in 4 bits. Of each `read` under way there is one matrix.
 */
export class QuantisedSource implements TensorSource {
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly totalBytes: number;
  readonly blocks: BlockSource;
  /** Of what is stored whole. */
  readonly pieces?: PieceSource;
  /** Matrices that are no quantised ones, by name. */
  readonly wholeMatrices: readonly string[];
  /** Matrices whose parts are not as they should be. */
  readonly unreadable: ReadonlySet<string>;
  readonly fileOf: (tensor: string) => string | undefined;
  readonly #build: QuantisedBuild;
  readonly #stored: TensorSource;
  readonly #modules: ReadonlyMap<string, Module>;
  readonly #spare: Uint8Array[] = [];

  /**
   * @param problems where it is noted, as `tensor-missing`, `tensor-mismatch`, `dtype-unsupported` or
   *   `architecture-unsupported`, which parts of a matrix are not as they should be
   */
  constructor(config: LlamaConfig, build: QuantisedBuild, stored: TensorSource, problems: Problems) {
    this.#build = build;
    this.#stored = stored;
    const expected = expectedTensors(config);
    const matrices = [...expected].filter(([, shape]) => shape.length === 2) as [string, readonly [number, number]][];
    const modules = new Map<string, Module>();
    const misfits = new Map<string, ModelError>();
    for (const [weight, shape] of matrices) {
      try {
        const module = moduleOf(weight, shape, build, stored, expected);
        if (module) modules.set(weight, module);
      } catch (error) {
        if (!(error instanceof ModelError)) throw error;
        misfits.set(weight, error);
      }
    }
    problems.note(...firstOfEachCode([...misfits.values()]));
    this.unreadable = new Set(misfits.keys());
    this.#modules = modules;
    this.wholeMatrices = matrices.map(([name]) => name).filter((name) => !modules.has(name) && !misfits.has(name));
    this.tensors = presented(stored.tensors, modules);
    this.totalBytes = [...this.tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
    this.fileOf = (name) => stored.fileOf?.([...(modules.get(name)?.parts.values() ?? [])][0]?.name ?? name);
    const { pieces } = stored;
    if (pieces) this.pieces = { ...pieces, has: (name) => !modules.has(name) && pieces.has(name) };
    this.blocks = {
      dtypeOf: (name) => (modules.has(name) ? build.dtype : undefined),
      read: (name, options) => this.#readBlocks(name, options),
    };
  }

  /** @throws what `TensorSource.read` of the stored tensors throws; ModelError `tensor-mismatch` */
  async *read(name: string, options: ReadTensorOptions = {}): AsyncGenerator<Uint8Array, void, void> {
    const module = this.#modules.get(name);
    if (!module) {
      yield* this.#stored.read(name, options);
      return;
    }
    const { chunkBytes = defaultChunkBytes, signal } = options;
    if (!(chunkBytes >= 1)) {
      throw new SessionError('invalid-argument', `chunkBytes must be 1 or more, but is ${chunkBytes}.`);
    }
    const { outputs, inputs } = module;
    const rows = Math.min(outputs, Math.max(1, Math.floor(chunkBytes / (4 * inputs))));
    const floats = new Float32Array(rows * inputs);
    yield* this.#eachRows(module, rows, signal, (matrix, first, count) => {
      const values = floats.subarray(0, count * inputs);
      matrix.readFloats(first, values);
      return new Uint8Array(values.buffer, 0, values.byteLength);
    });
  }

  async *#readBlocks(name: string, { rows, signal }: BlockOptions): AsyncGenerator<readonly Uint8Array[], void, void> {
    const module = this.#modules.get(name);
    if (!module) throw new ModelError('tensor-missing', `the model has no quantised matrix ${quote(name)}.`);
    const { dtype } = this.#build;
    const [quantBytes, blockHalves] = [quantisedFormats[dtype].bits / 8, quantisedFormats[dtype].parameters];
    const most = Math.min(rows, module.outputs) * module.inputs;
    const quants = new Uint8Array(most * quantBytes);
    const parameters = new Uint16Array((most / quantBlock) * blockHalves);
    yield* this.#eachRows(module, rows, signal, (matrix, first, count) => {
      const numbers = count * module.inputs;
      const into = {
        quants: quants.subarray(0, numbers * quantBytes),
        parameters: parameters.subarray(0, (numbers / quantBlock) * blockHalves),
      };
      if (!matrix.readBlocks(first, dtype, into)) throw beyondRange(name, dtype);
      return [into.quants, new Uint8Array(parameters.buffer, 0, into.parameters.byteLength)];
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stored[Symbol.asyncDispose]();
  }

  /** Makes something of so many rows at a time. */
  async *#eachRows<Made>(
    module: Module,
    rows: number,
    signal: AbortSignal | undefined,
    make: (matrix: QuantisedMatrix, first: number, count: number) => Made,
  ): AsyncGenerator<Made, void, void> {
    const { outputs, inputs } = module;
    const buffers: Uint8Array[] = [];
    try {
      const parts: Record<string, StoredPart> = {};
      for (const [part, info] of module.parts) {
        parts[part] = { info, bytes: await this.#readWhole(info, buffers, signal) };
      }
      if (module.strayBias) assertZeros(module.strayBias, await this.#readWhole(module.strayBias, buffers, signal));
      const matrix = this.#build.decode(outputs, inputs, parts);
      for (let first = 0; first < outputs; first += rows) {
        signal?.throwIfAborted();
        yield make(matrix, first, Math.min(rows, outputs - first));
      }
    } finally {
      this.#spare.push(...buffers);
    }
  }

  /** A tensor at the beginning of a buffer, which goes into `buffers`. */
  async #readWhole(
    { name, begin, end }: TensorInfo,
    buffers: Uint8Array[],
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array> {
    const buffer = this.#takeBuffer(end - begin);
    buffers.push(buffer);
    const whole = buffer.subarray(0, end - begin);
    if (this.#stored.pieces?.has(name)) {
      signal?.throwIfAborted();
      await this.#stored.pieces.read(name, 0, [whole]);
      return whole;
    }
    let at = 0;
    for await (const chunk of this.#stored.read(name, signal ? { signal } : {})) {
      whole.set(chunk, at);
      at += chunk.length;
    }
    return whole;
  }

  /** The smallest of those at hand that is large enough: tensors of all sizes take turns. */
  #takeBuffer(bytes: number): Uint8Array {
    const fitting = this.#spare.filter(({ length }) => length >= bytes).sort((a, b) => a.length - b.length);
    const [spare] = fitting;
    if (!spare || spare.length > 2 * bytes + defaultChunkBytes) return new Uint8Array(bytes);
    this.#spare.splice(this.#spare.indexOf(spare), 1);
    return spare;
  }
}

/** The tensors that stand for a matrix, checked; undefined where it is stored whole. @throws ModelError */
function moduleOf(
  weight: string,
  [outputs, inputs]: readonly [number, number],
  build: QuantisedBuild,
  { tensors, fileOf }: Pick<TensorSource, 'tensors' | 'fileOf'>,
  expected: ReadonlyMap<string, readonly number[]>,
): Module | undefined {
  const name = weight.slice(0, -'.weight'.length);
  const whole = tensors.get(weight);
  if (whole && isFloat(whole)) return undefined;
  // Embeddings are no projections: no format has them in parts. Whether they are there is for `checkTensors` to say.
  if (name.endsWith('embed_tokens')) return undefined;
  const parts = new Map<string, TensorInfo>();
  for (const [part, wanted] of Object.entries(build.parts(outputs, inputs))) {
    const tensor = tensors.get(`${name}.${part}`);
    if (tensor) parts.set(part, checked(tensor, wanted));
    else if (!wanted.optional) {
      throw new ModelError(
        'tensor-missing',
        `the model's files lack ${quote(`${name}.${part}`)}, a part of a matrix in ${build.name}, and ${quote(weight)} itself ` +
          'too. Are all weight files there, and do they belong to this config.json?',
      );
    }
  }
  const bias = expected.has(`${name}.bias`) ? undefined : tensors.get(`${name}.bias`);
  const strayBias = bias && checked(bias, { dtypes: floatDTypes, shapes: [[outputs]] });
  return { outputs, inputs, parts, strayBias };

  function checked(tensor: TensorInfo, { dtypes, shapes }: Part): TensorInfo {
    const subject = subjectOf(tensor.name, fileOf);
    if (!shapes.some((shape) => shape.join() === tensor.shape.join())) {
      const wanted = shapes.map(quote).join(' or ');
      const message = `${subject} must have shape ${wanted} in ${build.name}, but has ${quote(tensor.shape)}.`;
      throw new ModelError('tensor-mismatch', message);
    }
    if (dtypes.includes(tensor.dtype)) return tensor;
    const message = `${subject} must be stored as ${dtypes.join(' or ')} in ${build.name}, but is ${tensor.dtype}.`;
    throw new ModelError('dtype-unsupported', message);
  }
}

const isFloat = ({ dtype }: TensorInfo): boolean => (floatDTypes as readonly string[]).includes(dtype);

/** Tensors under the names that the architecture has; a matrix of several takes as many bytes as they. */
function presented(
  stored: ReadonlyMap<string, TensorInfo>,
  modules: ReadonlyMap<string, Module>,
): Map<string, TensorInfo> {
  const parts = new Set([...modules.values()].flatMap((module) => [...module.parts.values()].map(({ name }) => name)));
  const tensors = new Map([...stored].filter(([name]) => !parts.has(name)));
  for (const [weight, { outputs, inputs, parts }] of modules) {
    const end = [...parts.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
    tensors.set(weight, { name: weight, dtype: 'F32', shape: [outputs, inputs], begin: 0, end });
  }
  return tensors;
}

function assertZeros({ name, dtype }: TensorInfo, bytes: Uint8Array): void {
  // Of any float but for its sign.
  const step = dtype === 'F32' ? 4 : 2;
  if (bytes.every((byte, i) => (i % step === step - 1 ? byte & 0x7f : byte) === 0)) return;
  throw new ModelError(
    'tensor-mismatch',
    `tensor ${quote(name)} must be zeros, since the architecture has no such bias, but is not.`,
  );
}

const beyondRange = (name: string, dtype: QuantisedDType) =>
  new ModelError(
    'dtype-unsupported',
    `'${name}' has numbers that ${dtype} cannot hold: NaN, or beyond the range of f16 (65,504). Load the model with dtype f32.`,
  );
