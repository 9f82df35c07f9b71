import { bytesPerElement } from '../kernels/contract.ts';
import { type Adapter, type LowRankUpdate, readUpdate } from './adapter.ts';
import type { Backend, Tensor } from './backend.ts';
import { expectedTensors, type LlamaConfig } from './config.ts';
import { ModelError } from './errors.ts';
import { decodeToF16 } from './safetensors/convert.ts';
import { type LayerWeights, planWeights, type WeightDType } from './weights.ts';

/** What is added to `W x` for an adapter that is kept apart: `B (A x)`. */
export interface LowRank {
  readonly a: Tensor; // (rank, inputs)
  readonly b: Tensor; // (outputs, rank), the adapter's scale in it
}

/** The matrices of a layer that can be adapted. */
export type AdaptedMatrix = keyof Pick<LayerWeights, 'queryKeyValue' | 'attentionOutput' | 'gateUp' | 'down'>;

/** An adapter on a device, layer by layer; only what it changes. */
export type AdapterWeights = readonly Readonly<Partial<Record<AdaptedMatrix, LowRank>>>[];

/** The dtype of adapters beside a model of `dtype`: they are too small, and their ranks too few, to be quantised. */
const dtypeBeside = (dtype: WeightDType): 'f32' | 'f16' => (dtype === 'f32' ? 'f32' : 'f16');

/**
 * The low-rank matrices for one matrix of a layer. Where that is made of several of the checkpoint's, A stacks theirs,
 * and B has them block by block, its rows arranged as the layer's are: `[Bq Aq; Bk Ak; Bv Av] = B [Aq; Ak; Av]`.
 */
interface PlannedLowRank {
  readonly layer: number;
  readonly matrix: AdaptedMatrix;
  readonly outputs: number;
  readonly inputs: number;
  readonly rank: number;
  readonly parts: readonly {
    readonly update: LowRankUpdate;
    /** Where its rows of A, which are its columns of B, begin. */
    readonly firstRank: number;
    /** Where its rows of B begin, and how far each is from the next. */
    readonly firstRow: number;
    readonly step: number;
  }[];
}

function planAdapter(config: LlamaConfig, { updates }: Pick<Adapter, 'updates'>): PlannedLowRank[] {
  const heights = expectedTensors(config);
  return planWeights(config, 'f32').flatMap(({ label, shape, arrangement, sources }) => {
    const parts: PlannedLowRank['parts'][number][] = [];
    let [rank, firstRow] = [0, 0];
    for (const [k, name] of sources.entries()) {
      const update = updates.get(name);
      const place = arrangement === 'stack' ? { firstRow, step: 1 } : { firstRow: k, step: sources.length };
      if (update) parts.push({ update, firstRank: rank, ...place });
      rank += update?.rank ?? 0;
      firstRow += heights.get(name)![0]!;
    }
    if (parts.length === 0) return [];
    const [, layer, matrix] = label.split('.') as [string, string, AdaptedMatrix];
    const [outputs, inputs] = shape as [number, number];
    return [{ layer: Number(layer), matrix, outputs, inputs, rank, parts }];
  });
}

/** Bytes that an adapter takes on a device beside a model of `dtype`. */
export const adapterBytes = (config: LlamaConfig, adapter: Pick<Adapter, 'updates'>, dtype: WeightDType): number =>
  planAdapter(config, adapter).reduce(
    (sum, { outputs, inputs, rank }) => sum + bytesPerElement[dtypeBeside(dtype)] * rank * (outputs + inputs),
    0,
  );

/** What adapters that are kept apart need of the activations. */
export interface AdapterRoom {
  /** Numbers between A and B that a token has at most; 0 without adapters. */
  readonly rank: number;
  /** Whether some adapter changes what the gate of the MLP takes. */
  readonly gates: boolean;
}

export function adapterRoom(config: LlamaConfig, adapters: Iterable<Pick<Adapter, 'updates'>>): AdapterRoom {
  const plans = [...adapters].flatMap((adapter) => planAdapter(config, adapter));
  return {
    rank: Math.max(0, ...plans.map(({ rank }) => rank)),
    gates: plans.some(({ matrix }) => matrix === 'gateUp'),
  };
}

/**
 * Brings adapters into device memory, beside a model of `dtype`. Host memory holds one matrix of a layer at a time.
 * @throws ModelError, DeviceError `out-of-memory`, or the signal's reason
 */
export async function loadAdapters(
  backend: Backend,
  config: LlamaConfig,
  adapters: Readonly<Record<string, Adapter>>,
  dtype: WeightDType,
  signal?: AbortSignal,
): Promise<Map<string, AdapterWeights>> {
  const loaded = new Map<string, AdapterWeights>();
  for (const [name, adapter] of Object.entries(adapters)) {
    loaded.set(name, await loadAdapter(backend, config, adapter, dtype, signal));
  }
  return loaded;
}

async function loadAdapter(
  backend: Backend,
  config: LlamaConfig,
  adapter: Adapter,
  dtype: WeightDType,
  signal?: AbortSignal,
): Promise<AdapterWeights> {
  const layers: Partial<Record<AdaptedMatrix, LowRank>>[] = Array.from({ length: config.numHiddenLayers }, () => ({}));
  const put = (label: string, shape: readonly [number, number], values: Float32Array) => {
    const tensor = backend.allocate(label, dtypeBeside(dtype), shape);
    backend.writeRows(tensor, 0, [encode(values, dtypeBeside(dtype), label)]);
    return tensor;
  };
  for (const planned of planAdapter(config, adapter)) {
    signal?.throwIfAborted();
    const { layer, matrix, outputs, inputs, rank } = planned;
    const { a, b } = await assemble(adapter, planned, signal);
    const label = `adapter of layers.${layer}.${matrix}`;
    layers[layer]![matrix] = { a: put(`A, ${label}`, [rank, inputs], a), b: put(`B, ${label}`, [outputs, rank], b) };
    await backend.finish();
  }
  return layers;
}

async function assemble(adapter: Adapter, { outputs, inputs, rank, parts }: PlannedLowRank, signal?: AbortSignal) {
  const [a, b] = [new Float32Array(rank * inputs), new Float32Array(outputs * rank)];
  for (const { update, firstRank, firstRow, step } of parts) {
    const own = await readUpdate(adapter, update, signal);
    a.set(own.a, firstRank * inputs);
    const rows = own.b.length / update.rank;
    for (let row = 0; row < rows; row++) {
      const values = own.b.subarray(row * update.rank, (row + 1) * update.rank);
      b.set(values, (firstRow + row * step) * rank + firstRank);
    }
  }
  return { a, b };
}

function encode(values: Float32Array, dtype: 'f32' | 'f16', label: string): Uint8Array {
  const bytes = new Uint8Array(values.buffer);
  if (dtype === 'f32') return bytes;
  const { bits, outOfRange } = decodeToF16(bytes, 'F32');
  if (outOfRange === undefined) return new Uint8Array(bits.buffer);
  throw new ModelError(
    'dtype-unsupported',
    `${label} holds a number beyond the range of f16 (65,504). Load the model with dtype f32.`,
  );
}
