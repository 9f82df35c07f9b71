import { Guard } from '../guard/index.ts';
import { instructionIds } from '../guard/prompts.ts';
import { measureColdStart } from './cold-start.ts';
import { computedOn } from './environment.ts';
import { watchEventLoop } from './event-loop.ts';
import { batchSizes, messageLengths, messageOf, type PolicyName, policies } from './guard-scenarios.ts';
import { measure } from './measure.ts';
import { devicesOf, type Flags, type ThreadFlags, type TimeFlags } from './measurement.ts';
import type { ComputedOn, DeviceKind, GuardResult, Sections, Target, Timing } from './schema.ts';

/** What stands for an ordinary request: the default policy and a message of this many tokens. */
const ordinary = { policy: 'the default', messageTokens: 30 } as const;
/** The least that is asked of the model: what it was made for. */
const least: Scenario = { policy: "the model's own", messageTokens: ordinary.messageTokens };
/** A batch that one run of would take longer is left out; smaller ones run as often as this allows. */
const batchMs = { normal: 6000, quick: 1500 };
/**
 * On WebGPU: a cached check should be this share of (prompt tokens / new tokens) faster than one that is not, or more,
 * and a batch so many times as fast as single checks.
 */
const webgpuTargets = { cachedShare: 0.6, batch: { size: 32, gain: 1.3 } } as const;
/**
 * On the processor: milliseconds that the least cached check and everything up to the first verdict may take, and that
 * the event loop may stand still.
 */
const cpuTargets = { check: 12, firstVerdict: 1000, standstill: 5 } as const;
/** Checks during which the event loop is watched. */
const watchedChecks = { normal: 30, quick: 5 } as const;

interface Scenario {
  readonly policy: string;
  readonly messageTokens: number;
}

interface Sized {
  readonly promptTokens: number;
}

type GuardFlags = Flags & TimeFlags & ThreadFlags;

/** The embedded model end to end, on each device in turn. */
export async function run({ quick, seconds, threads, progress, ...flags }: GuardFlags): Promise<Sections> {
  const kinds = devicesOf(flags);
  const results: GuardResult[] = [];
  for (const kind of kinds) {
    const deadline = performance.now() + (1000 * seconds) / kinds.length;
    const course = { quick, deadline, threads, progress: (what: string) => progress(`${kind}: ${what}`) };
    results.push(await benchDevice(kind, course));
  }
  return { guard: results };
}

interface Course {
  readonly quick: boolean;
  /** On the clock of `performance.now`; nothing more is begun after it. */
  readonly deadline: number;
  /** Of the processor; undefined for as many as the cores that may be used. */
  readonly threads: number | undefined;
  readonly progress: (what: string) => void;
}

async function benchDevice(kind: DeviceKind, course: Course): Promise<GuardResult> {
  const { quick, deadline, threads, progress } = course;
  progress('cold start');
  const coldStart = await measureColdStart(kind, threads, quick ? 1 : 3);
  const checks: GuardResult['checks'] = [];
  const uncached: GuardResult['uncached'] = [];
  let about: (ComputedOn & Pick<GuardResult, 'model' | 'dtype'>) | undefined;
  let batches: BatchResults = { batches: [], singles: undefined };
  let eventLoop = { longest: 0, checks: 0 };
  const notes: string[] = [];
  const effort = quick ? { minimumMs: 0, minimumRuns: 2 } : { minimumMs: 300, minimumRuns: 5, enoughMs: 1000 };
  for (const policy of ordinaryFirst(Object.keys(policies) as PolicyName[], ordinary.policy)) {
    const isOrdinary = policy === ordinary.policy;
    const asked = policies[policy];
    // A guard each, so that nothing but this policy is in its cache.
    await using guard = await Guard.load(undefined, {
      device: kind,
      ...(asked ? { policy: asked } : {}),
      ...(threads === undefined ? {} : { threads }),
    });
    // The first forward pass compiles kernels.
    await checkUncached(guard, messageOf(guard, ordinary.messageTokens));
    about ??= { ...computedOn(guard.llama.device), model: guard.model, dtype: guard.llama.dtype };
    for (const messageTokens of ordinaryFirst(messageLengths, ordinary.messageTokens)) {
      // Every policy with the ordinary message, every message under the ordinary policy.
      if (!isOrdinary && messageTokens !== ordinary.messageTokens) continue;
      if (checks.length > 0 && performance.now() > deadline) {
        notes.push(`Left out as --seconds are over: policy: ${policy}, a message of ${messageTokens} tokens.`);
        continue;
      }
      progress(`policy: ${policy}, ${messageTokens} tokens`);
      // Never the same message twice: only the policy is to be found in the cache.
      const message = (run: number) => messageOf(guard, messageTokens, 1000 * messageTokens + run);
      const whole = await measure((text) => checkUncached(guard, text), { ...effort, warmUps: 0 }, message);
      let tokens = { prompt: 0, cached: 0 };
      const check = async (text: string) => {
        ({ tokens } = await guard.check(text));
      };
      const timing = await measure(check, effort, message);
      const scenario = { policy, messageTokens, promptTokens: tokens.prompt };
      uncached.push({ ...scenario, ...whole });
      checks.push({ ...scenario, newTokens: tokens.prompt - tokens.cached, ...timing });
      if (isOrdinary && messageTokens === ordinary.messageTokens) {
        eventLoop = await measureEventLoop(guard, watchedChecks[quick ? 'quick' : 'normal']);
        batches = await measureBatches(guard, course, notes);
      }
    }
  }
  return {
    ...about!,
    coldStart,
    checks: checks.sort(bySize),
    uncached: uncached.sort(bySize),
    batches: batches.batches,
    eventLoop,
    targets: targetsOf({ kind, coldStart, checks, uncached, eventLoop }, batches),
    notes,
  };
}

/** What targets are about comes first, in case that time runs out. */
const ordinaryFirst = <T>(all: readonly T[], first: T): T[] => [first, ...all.filter((other) => other !== first)];

const bySize = (a: Sized, b: Sized) => a.promptTokens - b.promptTokens;

/** What a check does, from text to the verdict's probabilities, in a context that holds nothing yet. */
async function checkUncached(guard: Guard, message: string): Promise<void> {
  const { llama, tokenizer } = guard;
  const ids = instructionIds(tokenizer, guard.instruction(message));
  using context = llama.createContext();
  await llama.logProbabilities([{ context, ids, wanted: [ids.length - 1] }], [0, 1]);
}

/** The longest time that the event loop stood still in some ordinary cached checks, one after another. */
async function measureEventLoop(guard: Guard, checks: number): Promise<GuardResult['eventLoop']> {
  let longest = 0;
  for (let i = 0; i < checks; i++) {
    const message = messageOf(guard, ordinary.messageTokens, 500_000 + i);
    const stop = watchEventLoop();
    await guard.check(message);
    longest = Math.max(longest, stop());
  }
  return { longest, checks };
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
    // One run of a ratio's two sides would be no ratio on a machine that others use.
    const fewest = size === webgpuTargets.batch.size && !quick ? 3 : 1;
    const runs = Math.min(10, Math.max(fewest, Math.floor(allowed / 6 / (perRequest * size || 100))));
    const effort = { minimumMs: 0, minimumRuns: runs, warmUps: perRequest * size < allowed / 20 ? 1 : 0 };
    const timing = await measure(batch, effort, requests);
    batches.push({ size, newTokens, ...timing });
    perRequest = timing.median / size;
    if (size !== webgpuTargets.batch.size) continue;
    progress(`${size} single checks`);
    const checkEach = async (waiting: ReturnType<typeof requests>) => {
      for (const { messages } of waiting) await guard.check(messages);
    };
    singles = await measure(checkEach, effort, requests);
  }
  return { batches, singles };
}

interface Measured extends Pick<GuardResult, 'coldStart' | 'checks' | 'uncached' | 'eventLoop'> {
  readonly kind: DeviceKind;
}

function targetsOf(
  { kind, coldStart, checks, uncached, eventLoop }: Measured,
  { batches, singles }: BatchResults,
): Target[] {
  const find = <T extends Scenario>(all: readonly T[], { policy, messageTokens }: Scenario): T | undefined =>
    all.find((at) => at.policy === policy && at.messageTokens === messageTokens);
  const targets: Target[] = [];
  const add = (name: string, value: number, bound: Target['bound'], target: number) =>
    targets.push({ name, value, bound, target });
  const ofWhat = ({ policy, messageTokens }: Scenario) => `a ${messageTokens}-token message, policy: ${policy}`;
  if (kind === 'cpu') {
    const check = find(checks, least);
    if (check) add(`a cached check of ${ofWhat(least)}, ms`, check.median, 'at most', cpuTargets.check);
    const name = 'from the start of the process to the first verdict, ms';
    add(name, coldStart.firstCheck, 'at most', cpuTargets.firstVerdict);
    add('the event loop at a standstill in a check, ms', eventLoop.longest, 'at most', cpuTargets.standstill);
    return targets;
  }
  const check = find(checks, ordinary)!;
  const whole = find(uncached, ordinary)!;
  const { promptTokens, newTokens } = check;
  const name = `a cached check of ${ofWhat(ordinary)}, times as fast as an uncached one (${promptTokens} tokens, ${newTokens} new)`;
  add(name, whole.median / check.median, 'at least', (promptTokens / newTokens) * webgpuTargets.cachedShare);
  const { size, gain } = webgpuTargets.batch;
  const batch = batches.find((of) => of.size === size);
  if (batch && singles) {
    const throughput = `a batch of ${size}, times as fast as ${size} single checks`;
    add(throughput, singles.median / batch.median, 'at least', gain);
  }
  return targets;
}
