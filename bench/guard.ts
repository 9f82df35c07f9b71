import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Guard } from '../guard/index.ts';
import { batchSizes, categoryCounts, messageLengths, messageOf, policyOf } from './guard-scenarios.ts';
import { measure, summarise } from './measure.ts';
import type { Flags, TimeFlags } from './measurement.ts';
import type { GuardResult, Sections, Timing } from './schema.ts';

type DeviceKind = GuardResult['device'];

/** What stands for an ordinary request: the default policy and a message of this many tokens. */
const ordinary = { categories: 6, messageTokens: 30 } as const;
/** A batch that one run of would take longer is left out; smaller ones run as often as this allows. */
const batchMs = { normal: 6000, quick: 1500 };
/** A cached check should be this share of (prompt tokens / new tokens) faster, or more. */
const cachedShare = 0.6;
const batchTarget = { size: 32, gain: 1.3 };

/** The embedded model end to end, on each device in turn. */
export async function run({ device, quick, seconds, hasAdapter, progress }: Flags & TimeFlags): Promise<Sections> {
  const all: readonly DeviceKind[] = hasAdapter ? ['webgpu', 'cpu'] : ['cpu'];
  const kinds = device === 'auto' ? all : [device];
  const results: GuardResult[] = [];
  for (const kind of kinds) {
    const deadline = performance.now() + (1000 * seconds) / kinds.length;
    results.push(await benchDevice(kind, { quick, deadline, progress: (what) => progress(`${kind}: ${what}`) }));
  }
  return { guard: results };
}

interface Course {
  readonly quick: boolean;
  /** On the clock of `performance.now`; nothing more is begun after it. */
  readonly deadline: number;
  readonly progress: (what: string) => void;
}

async function benchDevice(kind: DeviceKind, course: Course): Promise<GuardResult> {
  const { quick, deadline, progress } = course;
  progress('cold start');
  const coldStart = await measureColdStart(kind, quick ? 1 : 3);
  const checks: GuardResult['checks'] = [];
  const uncached: GuardResult['uncached'] = [];
  let about: Pick<GuardResult, 'name' | 'model' | 'dtype'> | undefined;
  let batches: BatchResults = { batches: [], singles: undefined };
  const notes: string[] = [];
  const effort = quick ? { minimumMs: 0, minimumRuns: 2 } : { minimumMs: 300, minimumRuns: 5, enoughMs: 1000 };
  for (const categories of ordinaryFirst(categoryCounts, ordinary.categories)) {
    const isOrdinary = categories === ordinary.categories;
    // A guard each, so that nothing but this policy is in its cache.
    await using guard = await Guard.load(undefined, { device: kind, policy: policyOf(categories) });
    // The first forward pass compiles kernels.
    await checkUncached(guard, messageOf(guard, ordinary.messageTokens));
    about ??= { name: guard.llama.device.name, model: guard.model, dtype: guard.llama.dtype };
    for (const messageTokens of ordinaryFirst(messageLengths, ordinary.messageTokens)) {
      // Every policy with the ordinary message, every message under the ordinary policy.
      if (!isOrdinary && messageTokens !== ordinary.messageTokens) continue;
      if (checks.length > 0 && performance.now() > deadline) {
        notes.push(`Left out as --seconds are over: ${categories} categories, a message of ${messageTokens} tokens.`);
        continue;
      }
      progress(`${categories} categories, ${messageTokens} tokens`);
      // Never the same message twice: only the policy is to be found in the cache.
      const message = (run: number) => messageOf(guard, messageTokens, 1000 * messageTokens + run);
      const whole = await measure((text) => checkUncached(guard, text), { ...effort, warmUps: 0 }, message);
      let tokens = { prompt: 0, cached: 0 };
      const check = async (text: string) => {
        ({ tokens } = await guard.check(text));
      };
      const timing = await measure(check, effort, message);
      const scenario = { categories, messageTokens, promptTokens: tokens.prompt };
      uncached.push({ ...scenario, ...whole });
      checks.push({ ...scenario, newTokens: tokens.prompt - tokens.cached, ...timing });
      const bothOrdinary = isOrdinary && messageTokens === ordinary.messageTokens;
      if (bothOrdinary) batches = await measureBatches(guard, course, notes);
    }
  }
  const ratios = ratiosOf(checks, uncached, batches);
  return {
    device: kind,
    ...about!,
    coldStart,
    checks: checks.sort(bySize),
    uncached: uncached.sort(bySize),
    batches: batches.batches,
    ratios,
    notes,
  };
}

/** What targets are about comes first, in case that time runs out. */
const ordinaryFirst = <N extends number>(all: readonly N[], first: N): N[] => [
  first,
  ...all.filter((n) => n !== first),
];

type Scenario = { readonly categories: number; readonly messageTokens: number };
const bySize = (a: Scenario, b: Scenario) => a.categories - b.categories || a.messageTokens - b.messageTokens;

async function measureColdStart(kind: DeviceKind, runs: number): Promise<GuardResult['coldStart']> {
  const script = fileURLToPath(new URL('./cold-start.ts', import.meta.url));
  const all: Omit<GuardResult['coldStart'], 'runs'>[] = [];
  for (let i = 0; i < runs; i++) {
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, kind]);
    all.push(JSON.parse(stdout));
  }
  const median = (step: keyof (typeof all)[number]) => summarise(all.map((steps) => steps[step])).median;
  return {
    modules: median('modules'),
    device: median('device'),
    weights: median('weights'),
    ready: median('ready'),
    firstCheck: median('firstCheck'),
    runs,
  };
}

/** What a check does, from text to the verdict's probabilities, in a context that holds nothing yet. */
async function checkUncached(guard: Guard, message: string): Promise<void> {
  const { llama, tokenizer } = guard;
  const ids = [tokenizer.bosId, ...tokenizer.encode(guard.instruction(message).text)];
  using context = llama.createContext();
  await llama.logProbabilities([{ context, ids, wanted: [ids.length - 1] }], [0, 1]);
}

interface BatchResults {
  readonly batches: GuardResult['batches'];
  /** As many single checks, one after another, as the target's batch has requests. */
  readonly singles: Timing | undefined;
}

async function measureBatches(
  guard: Guard,
  { quick, deadline, progress }: Course,
  notes: string[],
): Promise<BatchResults> {
  const allowed = batchMs[quick ? 'quick' : 'normal'];
  const batches: GuardResult['batches'] = [];
  let singles: Timing | undefined;
  let perRequest = 0;
  for (const size of batchSizes) {
    const late = performance.now() > deadline;
    if (late || perRequest * size > allowed) {
      const estimate = `it would take some ${((perRequest * size) / 1000).toFixed(0)} s`;
      notes.push(`The batch of ${size} was left out: ${late ? '--seconds are over' : estimate}.`);
      continue;
    }
    progress(`a batch of ${size}`);
    // Never the same message twice, as above; the singles go on where the batches end.
    let next = 0;
    const requests = () =>
      Array.from({ length: size }, () => ({
        messages: messageOf(guard, ordinary.messageTokens, 1000 * size + next++),
      }));
    let newTokens = 0;
    const batch = async (waiting: ReturnType<typeof requests>) => {
      newTokens = 0;
      for await (const { assessment, error } of guard.checkMany(waiting)) {
        if (error) throw error;
        newTokens += assessment.tokens.prompt - assessment.tokens.cached;
      }
    };
    const runs = Math.min(10, Math.max(1, Math.floor(allowed / 6 / (perRequest * size || 100))));
    const effort = { minimumMs: 0, minimumRuns: runs, warmUps: perRequest * size < allowed / 20 ? 1 : 0 };
    const timing = await measure(batch, effort, requests);
    batches.push({ size, newTokens, ...timing });
    perRequest = timing.median / size;
    if (size !== batchTarget.size) continue;
    progress(`${size} single checks`);
    const checkEach = async (waiting: ReturnType<typeof requests>) => {
      for (const { messages } of waiting) await guard.check(messages);
    };
    singles = await measure(checkEach, effort, requests);
  }
  return { batches, singles };
}

function ratiosOf(
  checks: GuardResult['checks'],
  uncached: GuardResult['uncached'],
  { batches, singles }: BatchResults,
): GuardResult['ratios'] {
  const isOrdinary = (at: Scenario) =>
    at.categories === ordinary.categories && at.messageTokens === ordinary.messageTokens;
  const check = checks.find(isOrdinary)!;
  const whole = uncached.find(isOrdinary)!;
  const batch = batches.find(({ size }) => size === batchTarget.size);
  return [
    {
      name: `a cached check of a ${ordinary.messageTokens}-token message against an uncached one (${check.promptTokens} tokens, ${check.newTokens} new)`,
      value: whole.median / check.median,
      target: (check.promptTokens / check.newTokens) * cachedShare,
    },
    ...(batch && singles
      ? [
          {
            name: `throughput of a batch of ${batchTarget.size} against ${batchTarget.size} single checks`,
            value: singles.median / batch.median,
            target: batchTarget.gain,
          },
        ]
      : []),
  ];
}
