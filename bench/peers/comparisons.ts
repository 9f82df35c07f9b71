/** Ours against the peers in one run, and what the project has set itself to reach. */
import type { Row } from './rows.ts';

interface Comparison {
  readonly what: string;
  readonly session: string;
  readonly work: Row['work'];
  readonly shape: RegExp;
  /** The peer's. */
  readonly dtype: string;
  /** Ours, where a session has ours on several devices. */
  readonly device?: RegExp;
  /** Ours, where a session has ours in several dtypes beside one of the peer's. */
  readonly ours?: string;
  /** Times the peer's speed; absent where nothing is set. */
  readonly atLeast?: number;
}

export interface Ratio {
  readonly what: string;
  /** The peer's time over ours: above 1, ours is faster. */
  readonly ratio: number;
  readonly atLeast?: number;
}

const product = (session: string, shape: string, dtype: string, atLeast?: number): Comparison => ({
  what: `matmul ${shape} ${dtype}, ${session}`,
  session,
  work: 'matmul',
  shape: new RegExp(`^${shape}$`),
  dtype,
  ...(atLeast === undefined ? {} : { atLeast }),
});

const model = (
  work: 'prefill' | 'uncached check' | 'cached check',
  shape: string,
  dtype: string,
  device: 'webgpu' | 'cpu',
  peer: 'cpu' | 'vulkan',
  atLeast?: number,
): Comparison => ({
  what: `${work} ${shape} ${dtype}, ours on ${device}, node-llama-cpp (${peer})`,
  session: `node-llama-cpp (${peer})`,
  work,
  shape: new RegExp(`^${shape},`),
  dtype,
  device: new RegExp(`^${device}`),
  ...(atLeast === undefined ? {} : { atLeast }),
});

const comparisons: readonly Comparison[] = [
  product('@jax-js/jax (webgpu)', '256x1024x1024', 'f32', 1.5),
  product('@jax-js/jax (webgpu)', '512x2048x2048', 'f32', 1.5),
  product('@jax-js/jax (webgpu)', '256x1024x1024', 'f16'),
  product('@jax-js/jax (webgpu)', '512x2048x2048', 'f16'),
  product('@jax-js/jax (wasm)', '512x1024x1024', 'f32', 1.5),
  product('@jax-js/jax (wasm on threads)', '512x1024x1024', 'f32'),
  product('onnxruntime-node (webgpu)', '256x1024x1024', 'f32'),
  product('onnxruntime-node (webgpu)', '512x2048x2048', 'f32'),
  product('onnxruntime-node (cpu)', '512x1024x1024', 'f32'),
  model('prefill', '768', 'f16', 'cpu', 'cpu', 1),
  { ...model('prefill', '768', 'q8_0', 'cpu', 'cpu', 1), ours: 'q8' },
  {
    ...model('prefill', '768', 'q8_0', 'cpu', 'cpu', 1),
    what: 'prefill 768 q8_0, ours on cpu with x in bytes as theirs, node-llama-cpp (cpu)',
    ours: 'q8, x in bytes',
  },
  model('uncached check', 'tiny-guard', 'f16', 'cpu', 'cpu'),
  model('cached check', 'tiny-guard', 'f16', 'cpu', 'cpu', 1),
  ...(['cpu', 'vulkan'] as const).flatMap((peer) => [
    model('prefill', '768', 'f16', 'webgpu', peer),
    model('uncached check', 'tiny-guard', 'f16', 'webgpu', peer),
    model('cached check', 'tiny-guard', 'f16', 'webgpu', peer),
  ]),
];

/** The ratios of those comparisons whose rows are there. Of a peer's several methods the fastest counts. */
export function ratios(rows: readonly Row[]): Ratio[] {
  return comparisons.flatMap(({ what, session, work, shape, dtype, device, ours: own, atLeast }) => {
    const inSession = rows.filter((row) => row.session === session && row.work === work && shape.test(row.shape));
    const theirs = inSession
      .filter((row) => row.peer !== 'ours' && row.dtype === dtype && row.median !== undefined)
      .reduce<Row | undefined>((best, row) => (best && best.median! <= row.median! ? best : row), undefined);
    if (!theirs) return [];
    // Ours is reported just before the peer that it was timed in turn with.
    const ours = inSession
      .slice(0, inSession.indexOf(theirs))
      .findLast((row) => row.peer === 'ours' && (!device || device.test(row.device)) && (!own || row.dtype === own));
    if (!ours) return [];
    return [{ what, ratio: theirs.median! / ours.median!, ...(atLeast === undefined ? {} : { atLeast }) }];
  });
}
