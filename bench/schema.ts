import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import { LlamaGuardError } from '../kernels/errors.ts';

/** A file that cannot be used: a result, or conversations. */
export class BenchError extends LlamaGuardError<
  'result-not-found' | 'result-invalid' | 'data-not-found' | 'data-invalid'
> {}

/** Raised whenever a field changes its meaning; files of another version are refused, not guessed at. */
export const formatVersion = 4;
const formatName = 'llama-guard-webgpu benchmark';

const amount = z.number().nonnegative();
const count = z.number().int().nonnegative();

/** Milliseconds of repeated runs. */
const timing = z.object({ median: amount, p90: amount, runs: count });

const adapter = z.object({
  name: z.string(),
  vendor: z.string(),
  architecture: z.string(),
  device: z.string(),
  /** A processor plays the GPU: these figures are no GPU's. */
  software: z.boolean(),
  features: z.array(z.string()),
  /** Dawn's instance flags, as given to it. */
  toggles: z.array(z.string()),
});

const environment = z.object({
  date: z.string(),
  /** Ends in `-dirty` where files differ from the commit. */
  commit: z.string(),
  arguments: z.array(z.string()),
  node: z.string(),
  processor: z.object({ model: z.string(), cores: count }),
  adapter: adapter.nullable(),
});

/** Where something was computed. */
const computedOn = {
  device: z.enum(['webgpu', 'cpu']),
  /** As the device describes itself. */
  name: z.string(),
  /** Of the processor; absent on WebGPU. */
  threads: count.optional(),
};

/** A figure that is to reach a bound, or to stay within it. */
const target = z.object({
  name: z.string(),
  value: z.number(),
  bound: z.enum(['at least', 'at most']),
  target: amount,
});

/** What a device reaches at best. */
const ceilings = z.object({
  /** Ways to go through memory beyond every cache, in bytes read and written together: the best binds every kernel. */
  bandwidth: z.array(z.object({ name: z.string(), gigabytesPerSecond: amount })),
  /** Independent multiply-adds in registers, an integer one counted as two operations too. */
  arithmetic: z.array(z.object({ name: z.string(), dtypes: z.array(z.string()), gflops: amount })),
});

const kernelKey = { operation: z.string(), variant: z.string(), label: z.string(), dtypes: z.string() };

const kernel = timing.extend({
  ...kernelKey,
  flops: amount,
  bytes: amount,
  gflops: amount,
  gigabytesPerSecond: amount,
  /** Of what the roofline allows at this intensity. */
  share: amount,
  /** Whether the device's timestamps or the wall clock was read. */
  clock: z.enum(['timestamps', 'wall']),
  /** Whether all of the result was compared with the float64 reference, or a sample of its independent parts. */
  verified: z.enum(['whole', 'sample']),
});

/** Every kernel on one device, beside what the device reaches at best. */
const kernels = z.object({
  ...computedOn,
  ceilings,
  rows: z.array(kernel),
  skipped: z.array(z.object({ ...kernelKey, reason: z.string() })),
  targets: z.array(target),
});

const guard = z.object({
  ...computedOn,
  model: z.string(),
  dtype: z.string(),
  /** Milliseconds in a fresh process each: since the process began, then step by step. */
  coldStart: z.object({
    modules: amount,
    device: amount,
    weights: amount,
    ready: amount,
    firstCheck: amount,
    runs: count,
  }),
  /** Single checks whose policy is cached. */
  checks: z.array(timing.extend({ policy: z.string(), messageTokens: count, promptTokens: count, newTokens: count })),
  /** The same with nothing cached. */
  uncached: z.array(timing.extend({ policy: z.string(), messageTokens: count, promptTokens: count })),
  /** Whole batches through `checkMany`, messages of 30 tokens, the default policy cached. */
  batches: z.array(timing.extend({ size: count, newTokens: count })),
  /** How long the event loop of this process stood still at a time, in milliseconds, while cached checks were under way. */
  eventLoop: z.object({ longest: amount, checks: count }),
  targets: z.array(target),
  notes: z.array(z.string()),
});

const modelPass = timing.extend({
  kind: z.enum(['prefill', 'cached prefill', 'batch', 'decode']),
  sequences: count,
  /** Tokens that each sequence has already. */
  prefixTokens: count,
  /** New tokens of each sequence. */
  newTokens: count,
  /** Of the linear layers, as far as this pass computes them. */
  linearFlops: amount,
});

const model = z.object({
  config: z.string(),
  dtype: z.string(),
  ...computedOn,
  parameters: count,
  /** Milliseconds to make the weights. */
  weightsMs: amount,
  predictedBytes: count,
  usedBytes: count,
  passes: z.array(modelPass),
});

/** A way to hold weights: what it costs in exactness, and what it saves. */
const format = z.object({
  format: z.string(),
  /** Absolute differences of the score from that with f32. */
  meanError: amount,
  maxError: amount,
  /** Conversations whose score is on the other side of 0.5 than with f32. */
  flips: count,
  weightBytes: count,
  /** Share of the bytes of f32 that is saved. */
  saved: z.number(),
  /** Of the labelled conversations: the area under precision against recall (AUPRC). */
  averagePrecision: amount.optional(),
});

/** Every way to hold the embedded model's weights on one device, f32 first. */
const formats = z.object({
  ...computedOn,
  conversations: count,
  /** Those that are said to be safe or unsafe. */
  labelled: count,
  rows: z.array(format),
  targets: z.array(target),
});

const loadingRow = timing.extend({
  /** In the files. */
  stored: z.string(),
  /** On the device. */
  dtype: z.string(),
  /** Of the files. */
  bytes: count,
  gigabytesPerSecond: amount,
  /** Of a plain sequential read of the same files, piece by piece into the same memory, in the same process. */
  readGigabytesPerSecond: amount,
  /** Of one into memory of its own, which the system has yet to provide. */
  keptGigabytesPerSecond: amount,
  /** Speed of loading by that of either read: the median of all rounds. */
  shareOfRead: amount,
  shareOfKept: amount,
  deviceBytes: count,
  /** The most that the process took beyond the device's memory. */
  hostBytes: amount,
});

/** Loading of models from the disk, page cache warm. */
const loading = z.object({ ...computedOn, rows: z.array(loadingRow), targets: z.array(target) });

const tuning = z.object({
  file: z.string(),
  choices: z.array(z.object({ shapes: z.string(), variant: z.string() })),
});

const resultSchema = z.object({
  format: z.literal(formatName),
  version: z.literal(formatVersion),
  environment,
  kernels: z.array(kernels).optional(),
  guard: z.array(guard).optional(),
  models: z.array(model).optional(),
  formats: z.array(formats).optional(),
  loading: z.array(loading).optional(),
  tuning: tuning.optional(),
});

/** Figures are in milliseconds, bytes, GFLOP/s and GB/s (1e9); whatever was not measured is absent. */
export type Result = z.infer<typeof resultSchema>;
/** What a measurement contributes. */
export type Sections = Omit<Result, 'format' | 'version' | 'environment'>;
export type Environment = z.infer<typeof environment>;
export type Timing = z.infer<typeof timing>;
export type Ceilings = z.infer<typeof ceilings>;
export type DeviceKind = GuardResult['device'];
export type ComputedOn = Pick<GuardResult, keyof typeof computedOn>;
export type Target = z.infer<typeof target>;
export type KernelRow = z.infer<typeof kernel>;
export type KernelsResult = z.infer<typeof kernels>;
export type GuardResult = z.infer<typeof guard>;
export type ModelResult = z.infer<typeof model>;
export type FormatRow = z.infer<typeof format>;
export type FormatsResult = z.infer<typeof formats>;
export type LoadingRow = z.infer<typeof loadingRow>;
export type LoadingResult = z.infer<typeof loading>;
export type ModelPass = z.infer<typeof modelPass>;

export function makeResult(environment: Environment, sections: Sections): Result {
  return { format: formatName, version: formatVersion, environment, ...sections };
}

export const formatResult = (result: Result): string => `${JSON.stringify(result, undefined, 1)}\n`;

/** @param source what messages call the file. @throws BenchError `result-invalid` */
export function parseResult(text: string, source: string): Result {
  const invalid = (message: string, cause?: unknown) =>
    new BenchError('result-invalid', `${source}: ${message}`, { cause });
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw invalid(`it is not JSON: ${(cause as Error).message}.`, cause);
  }
  const kind = z.object({ format: z.literal(formatName), version: z.number() }).safeParse(json);
  if (!kind.success) throw invalid('it is not a result of this benchmark; make one with "npm run bench".');
  if (kind.data.version !== formatVersion) {
    throw invalid(
      `it has version ${kind.data.version} of the format, and this is version ${formatVersion}; measure anew.`,
    );
  }
  const result = resultSchema.safeParse(json);
  if (result.success) return result.data;
  const issues = result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
  throw invalid(`it is broken: ${issues.slice(0, 5).join('; ')}${issues.length > 5 ? '; ...' : ''}.`);
}

/** @throws BenchError */
export async function readResult(file: string): Promise<Result> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new BenchError('result-not-found', `${file} cannot be read: ${cause.message}.`, { cause });
  });
  return parseResult(text, file);
}
