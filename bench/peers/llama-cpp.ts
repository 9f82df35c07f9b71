/** `node-llama-cpp`: the same weights as GGUF, in its prebuilt binaries on the processor or through Vulkan, beside ours. */
import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Llama, WeightDType } from '../../engine/index.ts';
import { activationsInBytes } from '../../engine/preference.ts';
import type { Guard } from '../../guard/index.ts';
import { embeddedModel } from '../../guard/node/load.ts';
import { instructionIds } from '../../guard/prompts.ts';
import { seededRandom } from '../../kernels/random.ts';
import { wasmFeatures } from '../../kernels/wasm/features.ts';
import type { GgufDType } from './gguf.ts';
import { timeInTurn } from './in-turn.ts';
import { contextTokens, LlamaCppModel } from './llama-cpp-model.ts';
import { peerThreads } from './matmul.ts';
import { deviceName, loadGuard, loadModel, nextProbabilities, threadsOf } from './ours.ts';
import type { Report, Row } from './rows.ts';
import { reasonOf, serve } from './session.ts';
import { toGguf } from './to-gguf.ts';

const name = 'node-llama-cpp';
const prefillTokens = 512;
/** What ours computes with beside each file. */
const ourDTypes = { f32: 'f32', f16: 'f16', q8_0: 'q8' } as const satisfies Record<GgufDType, WeightDType>;

/** Single tokens of the embedded model's vocabulary. */
const words =
  'about after again all and ask because best book build buy can change child city come day do drink eat every family ' +
  'find first food for friend from game get give go good great hand have help here home house how know learn life like ' +
  'little live long look love make man many more morning mother my name need new night old open other our people place ' +
  'plan play please question read right room school see send show small some start story street talk tell thing think ' +
  'time today try use walk want watch water way week what when where white who why wife will woman word work world write';
const messageTokens = 30;

/** Messages that never come again, so that the policy alone is found kept; the same ones for every contestant. */
function messages(): () => string {
  const random = seededRandom(1);
  const vocabulary = words.split(' ');
  const word = () => vocabulary[Math.floor(random() * vocabulary.length)]!;
  return () => Array.from({ length: messageTokens }, word).join(' ');
}

/** The embedded model's prompts with their ids and results in float64. */
interface Reference {
  readonly token_unsafe: number;
  readonly cases: readonly {
    readonly prompt: string;
    readonly input_ids: readonly number[];
    readonly p_unsafe: number;
  }[];
}
/** How far its p_unsafe may be from the reference: it keeps keys and values in f16. A wrong model is off by about 1. */
const largestDeviation = { f32: 1e-3, f16: 1e-3, q8_0: 2e-2 } as const satisfies Record<GgufDType, number>;

type About = Pick<Row, 'session' | 'peer' | 'device' | 'threads'> & { readonly dtype: GgufDType };
type OurDevice = 'webgpu' | 'cpu';

export interface LlamaCppOptions {
  readonly gpu: 'vulkan' | false;
  /** Model folders, and where ours runs beside each. The embedded model is judged as a guard, of others the prefill is timed. */
  readonly models: readonly { readonly folder: string; readonly ours: readonly OurDevice[] }[];
  /** Where GGUF files may be written. */
  readonly scratch: string;
}

/** Tokenises and scores the reference prompts. @throws Error where it is not the same model: its times would mean nothing */
async function agree(peer: LlamaCppModel, about: About, report: Report): Promise<void> {
  const reference: Reference = JSON.parse(readFileSync(join(embeddedModel, 'reference.json'), 'utf8'));
  const { cases, token_unsafe: unsafe } = reference;
  const same = cases.filter(({ prompt, input_ids: ids }) => peer.tokenize(prompt).join() === ids.join()).length;
  let deviation = 0;
  for (const { input_ids: ids, p_unsafe: expected } of cases) {
    await peer.forget();
    deviation = Math.max(deviation, Math.abs((await peer.nextProbability(ids, unsafe)).probability - expected));
  }
  const note = `${same} of ${cases.length} prompts tokenised the same; deviation: the largest of p_unsafe from the reference`;
  report({ ...about, work: 'agreement', shape: `tiny-guard, ${cases.length} prompts`, deviation, note });
  if (same < cases.length || !(deviation <= largestDeviation[about.dtype]))
    throw new Error('it computes another model');
}

/** The work of one contestant; `task` tells how many tokens were computed. */
interface Entry {
  readonly about: Omit<Row, 'work' | 'shape'>;
  readonly task: () => Promise<number>;
}

async function compare(entries: readonly Entry[], work: Pick<Row, 'work' | 'shape'>, report: Report): Promise<void> {
  const computed: number[][] = entries.map(() => []);
  const tasks = entries.map(
    ({ task }, i) =>
      async () =>
        void computed[i]!.push(await task()),
  );
  const timings = await timeInTurn(tasks);
  entries.forEach(({ about }, i) => {
    const timing = timings[i]!;
    // The first may have found nothing kept; where it was the only one, there was nothing to keep.
    const counts = computed[i]!.length > 1 ? computed[i]!.slice(1) : computed[i]!;
    const tokensPerSecond = (mean(counts) / timing.median) * 1000;
    const note = `computes ${[...new Set([Math.min(...counts), Math.max(...counts)])].join('-')} tokens`;
    report({ ...work, ...about, ...timing, tokensPerSecond, note });
  });
}

const aboutOurs = ({ device, dtype }: Llama, session: string): Entry['about'] => ({
  session,
  peer: 'ours',
  device: deviceName(device),
  dtype,
  ...threadsOf(device),
});

/** The time of whole guard requests, text to score: with nothing kept, and with what is kept by default. */
async function compareChecks(
  peer: LlamaCppModel,
  about: About,
  devices: readonly OurDevice[],
  report: Report,
): Promise<void> {
  const guards: Guard[] = [];
  try {
    for (const device of devices) guards.push(await loadGuard(device, ourDTypes[about.dtype]));
    const [guard] = guards as [Guard];
    const promptOf = (message: string) => guard.instruction(message).text;
    const unsafe = guard.tokenizer.idOf('▁unsafe')!;
    const shape = `tiny-guard, messages of ${messageTokens} tokens`;
    const ask = async (message: string) =>
      (await peer.nextProbability(peer.tokenize(promptOf(message)), unsafe)).computed;

    const uncached = guards.map(({ llama, tokenizer }): Entry => {
      const next = messages();
      const task = async () => {
        const ids = instructionIds(tokenizer, guard.instruction(next()));
        await nextProbabilities(llama, ids, [unsafe]);
        return ids.length;
      };
      return { about: aboutOurs(llama, about.session), task };
    });
    const forgotten = messages();
    const theirs = { about, task: () => peer.forget().then(() => ask(forgotten())) };
    await compare([...uncached, theirs], { work: 'uncached check', shape }, report);

    const cached = guards.map((own): Entry => {
      const next = messages();
      const task = async () => {
        const { tokens } = await own.check(next());
        return tokens.prompt - tokens.cached;
      };
      return { about: aboutOurs(own.llama, about.session), task };
    });
    const kept = messages();
    await compare([...cached, { about, task: () => ask(kept()) }], { work: 'cached check', shape }, report);
  } finally {
    for (const guard of guards) await guard[Symbol.asyncDispose]();
  }
}

/** A prompt of random tokens, with nothing kept. */
async function comparePrefill(
  folder: string,
  peer: LlamaCppModel,
  about: About,
  devices: readonly OurDevice[],
  report: Report,
): Promise<void> {
  const random = seededRandom(1);
  // Past the unknown, control and byte pieces, which come first.
  const ids = Array.from({ length: prefillTokens }, () => 300 + Math.floor(random() * 3000));
  const pick = ids[0]!;
  const models: Llama[] = [];
  try {
    for (const device of devices) {
      models.push(await loadModel(folder, device, { dtype: ourDTypes[about.dtype], contextLength: contextTokens }));
    }
    // Theirs rounds activations to bytes beside q8_0; ours only where that is asked for.
    const rounds = about.dtype === 'q8_0' && devices.includes('cpu') && wasmFeatures().has('relaxed-simd');
    if (rounds)
      models.push(await loadModel(folder, 'cpu', { dtype: 'q8', contextLength: contextTokens }, activationsInBytes));
    const ours = models.map((llama, i): Entry => {
      const task = () => nextProbabilities(llama, ids, [pick]).then(() => ids.length);
      const own = aboutOurs(llama, about.session);
      return { about: i < devices.length ? own : { ...own, dtype: 'q8, x in bytes' }, task };
    });
    const read = async () => (await peer.nextProbability(ids, pick)).computed;
    const theirs = { about, task: () => peer.forget().then(read) };
    await compare(
      [...ours, theirs],
      { work: 'prefill', shape: `${basename(folder)}, ${prefillTokens} tokens` },
      report,
    );
  } finally {
    for (const llama of models) await llama[Symbol.asyncDispose]();
  }
}

const mean = (numbers: readonly number[]) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;

await serve(async (argument, report) => {
  const { gpu, models, scratch }: LlamaCppOptions = JSON.parse(argument);
  const session = `${name} (${gpu || 'cpu'})`;
  const dtypes = ['f32', 'f16', 'q8_0'] as const satisfies GgufDType[];
  for (const { folder, ours } of models) {
    // Real weights of this size are kept in sixteen bits or fewer.
    for (const dtype of folder === embeddedModel ? dtypes : dtypes.slice(1)) {
      const file = join(scratch, `${basename(folder)}.${dtype}.gguf`);
      await toGguf(folder, file, dtype);
      await using peer = await LlamaCppModel.load(file, gpu);
      const device = peer.gpuName
        ? `vulkan, ${peer.gpuName}${/llvmpipe|swiftshader/i.test(peer.gpuName) ? ' (software)' : ''}`
        : 'cpu';
      const about = { session, peer: name, device, dtype, ...(gpu ? {} : { threads: peerThreads }) };
      try {
        if (folder === embeddedModel) {
          await agree(peer, about, report);
          await compareChecks(peer, about, ours, report);
        }
        await comparePrefill(folder, peer, about, ours, report);
      } catch (error) {
        report({ ...about, work: 'prefill', shape: basename(folder), note: `failed, ${reasonOf(error)}` });
      }
    }
  }
});
