import type { Llama, PrefixCache, PromptReading, ReadPromptOptions } from '../engine/index.ts';
import { type Tokenizer, TokenizerError } from '../tokenizer/index.ts';
import type { AnswerGrammar, Label } from './formats/index.ts';
import type { Role } from './messages.ts';

/** The tokens of the ways from one end of a prompt to a verdict. */
export interface AnswerTokens {
  readonly steps: readonly (
    | { readonly force: readonly number[] }
    | { readonly choose: readonly (readonly number[])[] }
  )[];
  /** Of each label the spellings that begin with a token of their own. */
  readonly labels: readonly {
    readonly label: Label;
    readonly spellings: readonly { readonly text: string; readonly firstId: number }[];
  }[];
  /** All whose probabilities are looked at on the way. */
  readonly picks: readonly number[];
  /** The ids of a text in the place of the verdict. */
  write(text: string): number[];
}

/** What was read at the place of the verdict. */
export interface Answer {
  /** The probability that the model would have written what was put into its mouth; undefined where nothing was. */
  readonly forced: number | undefined;
  /** The probability of each label, all spellings together, in the grammar's order. */
  readonly labels: readonly {
    readonly label: Label;
    readonly logProbability: number;
    readonly spellings: readonly { readonly text: string; readonly logProbability: number }[];
  }[];
}

/**
 * @param promptEnd what the frame says behind the conversation, added tokens spelt out
 * @throws TokenizerError `tokenizer-mismatch` where labels are not the tokens that they should be, or cannot be told apart
 */
export function answerTokens(
  tokenizer: Pick<Tokenizer, 'encodePrompt'>,
  grammar: AnswerGrammar,
  role: Role,
  promptEnd: string,
): AnswerTokens {
  let before = promptEnd;
  const steps = grammar.path(role).map((step) => {
    const texts = 'force' in step ? [step.force] : step.choose;
    const ids = texts.map((text) => continuation(tokenizer, before, text));
    before = texts[0]!;
    return 'force' in step ? { force: ids[0]! } : { choose: ids };
  });
  const write = (text: string) => continuation(tokenizer, before, text);
  const labels = grammar.labels.map((label) => {
    const ids = label.spellings.map(write);
    const long = label.spellings.find((_, i) => ids[i]!.length > 1);
    if (grammar.labelsAreTokens && long !== undefined) {
      throw mismatch(`The tokenizer has no single token '${long}', which verdicts are read from`);
    }
    const begun = label.spellings.map((text, i) => ({ text, firstId: ids[i]![0]! }));
    const isOwn = ({ firstId }: (typeof begun)[number], i: number) =>
      begun.findIndex((other) => other.firstId === firstId) === i;
    return { label, spellings: begun.filter(isOwn) };
  });
  const firstIds = labels.flatMap(({ spellings }) => spellings.map(({ firstId }) => firstId));
  if (new Set(firstIds).size < firstIds.length) {
    throw mismatch(
      `The tokenizer begins ${grammar.labels.map(({ spellings }) => `'${spellings[0]}'`).join(' or ')} with the same ` +
        'token, which verdicts are read from',
    );
  }
  const onTheWay = steps.flatMap((step) => ('force' in step ? step.force : step.choose.map(([first]) => first!)));
  return { steps, labels, picks: [...new Set([...onTheWay, ...firstIds])], write };
}

/** Reads prompts up to their verdicts. */
export async function readAnswer(
  llama: Llama,
  prefixes: PrefixCache,
  prompt: readonly number[],
  { steps, labels, picks }: AnswerTokens,
  options: Pick<ReadPromptOptions, 'adapter' | 'signal'> & { readonly headroom: number },
): Promise<Answer & Pick<PromptReading, 'context' | 'cached'> & Disposable> {
  const at = new Map(picks.map((id, i) => [id, i]));
  const logOf = (row: Float32Array, id: number) => row[at.get(id)!]!;
  const [first, ...rest] = steps;
  const forcedFirst = first && 'force' in first ? first.force : [];
  const onward = first && 'force' in first ? rest : steps;
  const onwardTokens = onward.reduce(
    (sum, step) => sum + ('force' in step ? step.force.length : Math.max(...step.choose.map(({ length }) => length))),
    0,
  );
  const reading = await prefixes.logProbabilities([...prompt, ...forcedFirst], picks, {
    ...options,
    headroom: options.headroom + onwardTokens,
    rows: forcedFirst.length + 1,
  });
  try {
    let forced = forcedFirst.reduce((sum, id, i) => sum + logOf(reading.rows[i]!, id), 0);
    let last = reading.rows.at(-1)!;
    let chosen: readonly number[] = [];
    for (const step of onward) {
      if ('choose' in step) {
        chosen = step.choose.reduce((a, b) => (logOf(last, b[0]!) > logOf(last, a[0]!) ? b : a));
        continue;
      }
      options.signal?.throwIfAborted();
      const ids = [...chosen, ...step.force];
      // What follows the choice, and so on to what follows the last token.
      const wanted = [...ids.keys()].slice(chosen.length - 1);
      const [rows] = await llama.logProbabilities([{ context: reading.context, ids, wanted }], picks);
      forced += step.force.reduce((sum, id, i) => sum + logOf(rows![i]!, id), 0);
      last = rows!.at(-1)!;
    }
    return {
      forced: steps.length > 0 ? Math.exp(forced) : undefined,
      labels: labels.map(({ label, spellings }) => {
        const read = spellings.map(({ text, firstId }) => ({ text, logProbability: logOf(last, firstId) }));
        return { label, logProbability: logSum(read.map(({ logProbability }) => logProbability)), spellings: read };
      }),
      context: reading.context,
      cached: reading.cached,
      [Symbol.dispose]: () => reading[Symbol.dispose](),
    };
  } catch (error) {
    reading[Symbol.dispose]();
    throw error;
  }
}

/** log(sum(exp(x))); of one number the number itself. */
export function logSum(logs: readonly number[]): number {
  if (logs.length === 1) return logs[0]!;
  const largest = Math.max(...logs);
  return largest + Math.log(logs.reduce((sum, log) => sum + Math.exp(log - largest), 0));
}

/**
 * The ids of a text that follows one of the frame's.
 * @throws TokenizerError `tokenizer-mismatch` where the two are not told apart
 */
function continuation(tokenizer: Pick<Tokenizer, 'encodePrompt'>, before: string, text: string): number[] {
  const frame = { of: 'frame', text: before } as const;
  const known = tokenizer.encodePrompt([frame]);
  // What is written may name categories, which are not the frame's: no token is read out of it.
  const ids = tokenizer.encodePrompt([frame, { of: 'message', text }]);
  if (ids.length > known.length && known.every((id, i) => id === ids[i])) return ids.slice(known.length);
  throw mismatch(
    `The tokenizer does not begin a token where ${JSON.stringify(text)} follows ${JSON.stringify(before)}`,
  );
}

const mismatch = (what: string) =>
  new TokenizerError('tokenizer-mismatch', `${what}: it is not of a guard in this prompt format.`);
