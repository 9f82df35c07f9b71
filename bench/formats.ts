import { Option } from 'commander';
import { memoryNeeds, type WeightDType } from '../engine/index.ts';
import { activationsInBytes, type Preference } from '../engine/preference.ts';
import { averagePrecision } from '../guard/evaluation/metrics.ts';
import { Guard, type LoadOptions } from '../guard/index.ts';
import { wasmFeatures } from '../kernels/wasm/features.ts';
import { bundledConversations, type LabelledConversation, readConversations } from './conversations.ts';
import { computedOn } from './environment.ts';
import { devicesOf, type Flags, type ThreadFlags, threadsOption } from './measurement.ts';
import type { ComputedOn, DeviceKind, FormatRow, FormatsResult, Sections, Target } from './schema.ts';

export interface FormatFlags extends ThreadFlags {
  readonly data?: string;
}

export const options: readonly Option[] = [
  new Option(
    '--data <file>',
    'conversations beside the bundled ones: a {"messages" or "prompt", "role"?, "unsafe"?} a line',
  ),
  threadsOption,
];

interface Format {
  readonly name: string;
  readonly dtype: WeightDType;
  readonly prefer?: Preference;
}

const formats: readonly Format[] = [
  { name: 'f32', dtype: 'f32' },
  { name: 'f16', dtype: 'f16' },
  { name: 'q8', dtype: 'q8' },
  {
    name: 'q8, activations rounded too',
    dtype: 'q8',
    prefer: activationsInBytes,
  },
  { name: 'q4', dtype: 'q4' },
];

/** By how much AUPRC may differ on the processor: f32 from f32 on WebGPU, q8 from f32. */
const auprcBounds = { f32: 0.0005, q8: 0.002 } as const;

/** A format's scores, in the order of the conversations. */
interface Scored {
  readonly scores: readonly number[];
  readonly weightBytes: number;
  readonly on: ComputedOn;
}

/** The embedded model's scores in every format against those in f32, over the conversations at hand, on each device. */
export async function run({ data, threads, progress, ...flags }: Flags & FormatFlags): Promise<Sections> {
  const conversations = [...bundledConversations(), ...(data === undefined ? [] : readConversations(data))];
  const results: FormatsResult[] = [];
  for (const device of devicesOf(flags)) {
    const given = threads === undefined ? {} : { threads };
    const rows: FormatRow[] = [];
    let exact: Scored | undefined;
    for (const { name, dtype, prefer } of formats) {
      // Without the relaxed dot product the processor has no such kernel.
      if (prefer && device === 'cpu' && !wasmFeatures().has('relaxed-simd')) continue;
      progress(`${device}: ${name}`);
      const scored = await score(conversations, { ...given, device, dtype, ...(prefer ? { prefer } : {}) });
      exact ??= scored;
      rows.push({ format: name, ...compare(scored, exact), ...qualityOf(conversations, scored) });
    }
    results.push({
      ...exact!.on,
      conversations: conversations.length,
      labelled: labelsOf(conversations).length,
      rows,
      targets: targetsOf(device, rows, results[0]?.rows),
    });
  }
  return { formats: results };
}

async function score(conversations: readonly LabelledConversation[], options: LoadOptions): Promise<Scored> {
  await using guard = await Guard.load(undefined, options);
  const scores: number[] = [];
  for (const { messages, role } of conversations) {
    scores.push((await guard.check(messages, role ? { role } : {})).score);
  }
  const { config, device, dtype } = guard.llama;
  return { scores, weightBytes: memoryNeeds(config, { dtype }).weights, on: computedOn(device) };
}

function compare({ scores, weightBytes }: Scored, exact: Scored): Omit<FormatRow, 'format' | 'averagePrecision'> {
  const errors = scores.map((value, i) => Math.abs(value - exact.scores[i]!));
  return {
    meanError: errors.reduce((a, b) => a + b, 0) / errors.length,
    maxError: Math.max(...errors),
    flips: scores.filter((value, i) => value >= 0.5 !== exact.scores[i]! >= 0.5).length,
    weightBytes,
    saved: 1 - weightBytes / exact.weightBytes,
  };
}

/** The places of the labelled conversations, with their labels. */
const labelsOf = (conversations: readonly LabelledConversation[]) =>
  conversations.flatMap(({ unsafe: label }, i) => (label === undefined ? [] : [{ i, label }]));

/** Nothing where no conversation is labelled. */
function qualityOf(
  conversations: readonly LabelledConversation[],
  { scores }: Scored,
): Pick<FormatRow, 'averagePrecision'> {
  const area = averagePrecision(labelsOf(conversations).map(({ i, label }) => ({ score: scores[i]!, label })));
  return area === null ? {} : { averagePrecision: area };
}

/** @param first the rows of the device that was measured first */
function targetsOf(device: DeviceKind, rows: readonly FormatRow[], first: readonly FormatRow[] | undefined): Target[] {
  const auprc = (of: readonly FormatRow[] | undefined, name: string) =>
    of?.find(({ format }) => format === name)?.averagePrecision;
  const [f32, q8, elsewhere] = [auprc(rows, 'f32'), auprc(rows, 'q8'), auprc(first, 'f32')];
  if (device !== 'cpu' || f32 === undefined || q8 === undefined) return [];
  const within = (name: string, difference: number, target: number): Target => {
    return { name, value: Math.abs(difference), bound: 'at most', target };
  };
  return [
    ...(elsewhere === undefined ? [] : [within('AUPRC of f32 off that on WebGPU', f32 - elsewhere, auprcBounds.f32)]),
    within('AUPRC of q8 off that of f32', q8 - f32, auprcBounds.q8),
  ];
}
