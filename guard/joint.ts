import type { Context, Llama } from '../engine/index.ts';
import { type Answer, type AnswerTokens, logSum } from './answer.ts';
import type { ListGrammar } from './formats/format.ts';
import type { Policy } from './policy.ts';

/** A beginning of the written list that is followed further. */
interface Branch {
  readonly codes: readonly string[];
  /** log P(this beginning | the verdict's first token). */
  readonly logProbability: number;
  /** Log-probabilities of the tokens that matter, after the last token. */
  readonly next: Float32Array;
}

/** A branch and one code more: the tokens after the list's lead, of which those from `begun` on are the code's. */
interface Step {
  readonly branch: Branch;
  readonly code: string;
  readonly ids: readonly number[];
  readonly begun: number;
}

export interface JointOptions {
  /** Tokens beyond the prompt for which the cache has room; `mostTokens` of the list at least. */
  readonly room: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Beginnings of two codes and more that are less probable than this are not followed; what is missed adds up to little. Of
 * single codes each is: a model that hardly writes codes at all still ranks them, and they are one batch.
 */
const negligible = 1e-4;

/** A way to write an unsafe verdict. */
export interface UnsafeVerdict {
  readonly text: string;
  /** P(it | unsafe). */
  readonly probability: number;
}

/**
 * The ways to write that a conversation is unsafe, of every label that counts as that, as probable as they are; those that
 * are hardly ever written are left out. A format with one label in one spelling has one, of probability 1.
 */
export function unsafeVerdicts({ labels }: Pick<Answer, 'labels'>): UnsafeVerdict[] {
  const ways = labels.flatMap(({ label, spellings }) => (label.means === 'unsafe' ? spellings : []));
  const unsafe = logSum(ways.map(({ logProbability }) => logProbability));
  return ways
    .map(({ text, logProbability }) => ({ text, probability: Math.exp(logProbability - unsafe) }))
    .filter(({ probability }) => probability > negligible);
}

/** How a list stands behind one spelling of an unsafe verdict, in tokens. */
export class WrittenList {
  readonly #grammar: ListGrammar;
  readonly #tokens: Pick<AnswerTokens, 'write'>;
  readonly #verdict: string;
  readonly #written: ReadonlyMap<string, string>;

  constructor(grammar: ListGrammar, verdict: string, tokens: Pick<AnswerTokens, 'write'>, policy: Policy) {
    this.#grammar = grammar;
    this.#tokens = tokens;
    this.#verdict = verdict + grammar.lead;
    this.#written = new Map(policy.categories.map((category) => [category.code, grammar.written(category)]));
  }

  get codes(): string[] {
    return [...this.#written.keys()];
  }

  /** The tokens of the verdict and these categories. */
  ids(codes: readonly string[]): number[] {
    return this.#tokens.write(this.#text(codes));
  }

  /** The tokens that all lists begin with: the verdict and the lead, whose last space may belong to a category's token. */
  get start(): number[] {
    const lead = this.ids([]);
    const shared = this.codes.map((code) => {
      const ids = this.ids([code]);
      const differs = lead.findIndex((id, i) => id !== ids[i]);
      return differs === -1 ? lead.length : differs;
    });
    return lead.slice(0, Math.min(...shared));
  }

  /** The tokens that may follow a category: what separates it from another one, which may be one with that, and what ends the list. */
  follow(): { readonly separators: readonly number[]; readonly ends: readonly number[] } {
    const [first] = this.codes as [string];
    const length = this.ids([first]).length;
    const after = (text: string) => this.#tokens.write(this.#text([first]) + text)[length]!;
    const others = this.codes.map((code) => this.ids([first, code])[length]!);
    return {
      separators: [...new Set([after(this.#grammar.separator), ...others])],
      ends: this.#grammar.ends.map(after),
    };
  }

  /** Tokens of the longest verdict, the one that ends it included. */
  get mostTokens(): number {
    return this.ids(this.codes).length + 1;
  }

  #text(codes: readonly string[]): string {
    return this.#verdict + codes.map((code) => this.#written.get(code)!).join(this.#grammar.separator);
  }
}

/**
 * For each category, the probability that the list written after an unsafe verdict names it.
 *
 * The lists form a tree; its branches are teacher-forced as forks of one context, as many of a level together as there
 * is room for. A code counts where it is complete, that is followed by a separator or the end: summed over all beginnings
 * that end in it, this is the exact probability. What is left out are beginnings of several codes less probable than 1e-4,
 * so that the result is never less than the probability of the code as the first one.
 *
 * @param prompt the context up to the verdict; not changed
 */
export async function jointProbabilities(
  llama: Llama,
  list: WrittenList,
  prompt: Context,
  { room, signal }: JointOptions,
): Promise<Map<string, number>> {
  const { codes } = list;
  const written = (some: readonly string[]) => list.ids(some);
  const { separators, ends: lineEnds } = list.follow();
  const ends = [...new Set([...separators, ...lineEnds, ...llama.config.eosTokenIds])];
  const { start } = list;
  const picks = [
    ...new Set([...ends, ...start, ...codes.flatMap((code) => [...written([code]), ...written([codes[0]!, code])])]),
  ];
  const at = new Map(picks.map((id, i) => [id, i]));
  const logOf = (row: Float32Array, id: number) => row[at.get(id)!]!;
  /** log P of the ids after the first, each read off the row before it. */
  const logOfRest = (rows: readonly Float32Array[], ids: readonly number[]) =>
    ids.slice(1).reduce((sum, id, i) => sum + logOf(rows[i]!, id), 0);

  using root = prompt.fork();
  const [rows] = await llama.logProbabilities([{ context: root, ids: start, wanted: [...start.keys()] }], picks);
  /** The rows of each step's code. Branches are short: to write one again is cheaper than to keep it. */
  const follow = async (steps: readonly Step[]): Promise<Float32Array[][]> => {
    const forks = steps.map(() => root.fork());
    try {
      return await llama.logProbabilities(
        steps.map(({ ids, begun }, i) => ({ context: forks[i]!, ids, wanted: [...ids.keys()].slice(begun) })),
        picks,
      );
    } finally {
      for (const fork of forks) fork[Symbol.dispose]();
    }
  };

  const named = new Map(codes.map((code) => [code, 0]));
  let level: Branch[] = [{ codes: [], logProbability: logOfRest(rows!, start), next: rows!.at(-1)! }];
  while (level.length > 0) {
    const steps = level.flatMap((branch): Step[] => {
      const begun = branch.codes.length > 0 ? written(branch.codes).length - start.length : 0;
      return codes
        .filter((code) => !branch.codes.includes(code))
        .map((code) => ({ branch, code, ids: written([...branch.codes, code]).slice(start.length), begun }))
        .filter(({ ids }) => {
          const single = branch.codes.length === 0;
          return single || Math.exp(branch.logProbability + logOf(branch.next, ids[begun]!)) > negligible;
        });
    });
    level = [];
    for (const together of groupsWithin(room - start.length, steps)) {
      signal?.throwIfAborted();
      const results = await follow(together);
      for (const [i, { branch, code, ids, begun }] of together.entries()) {
        const own = ids.slice(begun);
        const next = results[i]!.at(-1)!;
        const logProbability = branch.logProbability + logOf(branch.next, own[0]!) + logOfRest(results[i]!, own);
        const sumOf = (ids: readonly number[]) => ids.reduce((sum, id) => sum + Math.exp(logOf(next, id)), 0);
        named.set(code, named.get(code)! + Math.exp(logProbability) * sumOf(ends));
        const goesOn = Math.exp(logProbability) * sumOf(separators) > negligible;
        if (goesOn) level.push({ codes: [...branch.codes, code], logProbability, next });
      }
    }
  }
  return named;
}

/** Runs of steps whose tokens fit; each holds one at least. */
function* groupsWithin(tokens: number, steps: readonly Step[]): Generator<Step[]> {
  let group: Step[] = [];
  let left = tokens;
  for (const step of steps) {
    if (group.length > 0 && step.ids.length > left) {
      yield group;
      group = [];
      left = tokens;
    }
    group.push(step);
    left -= step.ids.length;
  }
  if (group.length > 0) yield group;
}
