import { parseConversation } from '../conversation.ts';
import { ConversationError, EvaluationError } from '../errors.ts';
import type { Message, Role } from '../messages.ts';
import type { Policy } from '../policy.ts';
import type { CategoryMap } from './category-map.ts';
import { Fields } from './formats/fields.ts';
import type { Format, LabelledLine } from './formats/format.ts';
import { generic } from './formats/generic.ts';
import { anyOf, type Label } from './formats/label.ts';
import { llamaGuard } from './formats/llama-guard.ts';
import { openaiModeration } from './formats/openai-moderation.ts';
import { toxicChat } from './formats/toxicchat.ts';

/** A conversation whose verdict people know. */
export interface Sample {
  /** As the data has it, else `line-N`; unique in its set. */
  readonly id: string;
  /** From 1. */
  readonly line: number;
  readonly messages: readonly Message[] | string;
  readonly role?: Role;
  /** null where it is not known. */
  readonly unsafe: Label | null;
  /** By code of the policy; absent where it is not known. */
  readonly categories: ReadonlyMap<string, Label>;
}

/** A sample and what a guard says of it. */
export interface ScoredSample extends Sample {
  /** unsafe / (safe + unsafe). */
  readonly score: number;
  /** Softmax over the whole vocabulary at the unsafe token. */
  readonly unsafeProbability: number;
  /** By code. */
  readonly categoryScores?: Readonly<Record<string, number>>;
}

export const formats = {
  generic,
  'openai-moderation': openaiModeration,
  toxicchat: toxicChat,
  'llama-guard': llamaGuard,
} satisfies Record<string, Format>;

export type FormatName = keyof typeof formats;

export const formatNames = Object.keys(formats) as FormatName[];

export interface ReadOptions {
  /** `generic` unless told. */
  readonly format?: FormatName;
  readonly policy: Pick<Policy, 'categories' | 'roles'>;
  /** Without one a label is the policy's category of that code. */
  readonly map?: CategoryMap;
  /** Whose messages are judged where a line does not say. */
  readonly role?: Role;
  /**
   * Takes a sample that no known label calls unsafe for safe, as figures published on sets with missing labels do; its
   * categories stay unknown. False unless told.
   */
  readonly assumeSafe?: boolean;
}

/**
 * Reads a labelled set, a line a sample; blank lines are skipped.
 *
 * Several labels that are mapped to one category are joined: it is violated where one of them holds, not violated where
 * all are known not to, and unknown otherwise.
 *
 * @throws EvaluationError `data-invalid`, `label-invalid`, `id-duplicate`, or `category-unknown` for a category that neither
 *   map nor policy knows; all name the line
 */
export async function* readSamples(
  lines: AsyncIterable<string> | Iterable<string>,
  { format = 'generic', policy, map, role, assumeSafe = false }: ReadOptions,
): AsyncGenerator<Sample, void, void> {
  const reader: Format = formats[format];
  const codesOf: CategoryMap = map ?? new Map(policy.categories.map(({ code }) => [code, [code]]));
  const labelsOf = inverted(codesOf);
  const lineOfId = new Map<string, number>();
  let line = 0;
  for await (const text of lines) {
    line++;
    if (text.trim() === '') continue;
    const read = atLine(line, () => reader.read(new Fields(text, `line ${line}`), role));
    const id = read.id ?? `line-${line}`;
    const earlier = lineOfId.get(id);
    if (earlier !== undefined) {
      throw new EvaluationError(
        'id-duplicate',
        `line ${line}: the id ${JSON.stringify(id)} is that of line ${earlier}; scores are kept by id, so each needs its own`,
      );
    }
    lineOfId.set(id, line);
    const stranger = reader.vocabulary ? undefined : [...read.labels.keys()].find((label) => !codesOf.has(label));
    if (stranger !== undefined) {
      const known = [...codesOf.keys()].join(', ');
      throw new EvaluationError(
        'category-unknown',
        `line ${line}: the category ${JSON.stringify(stranger)} is not known; the ${map ? 'map' : 'policy'} has ${known}`,
      );
    }
    const judged = read.role ?? role;
    atLine(line, () => parseConversation(read.messages, policy));
    yield {
      id,
      line,
      messages: read.messages as Sample['messages'],
      ...(judged === undefined ? {} : { role: judged }),
      unsafe: read.unsafe ?? (assumeSafe ? 0 : null),
      categories: categoriesOf(read, labelsOf),
    };
  }
}

/** By code, the labels that are mapped to it. */
function inverted(map: CategoryMap): ReadonlyMap<string, readonly string[]> {
  const labelsOf = new Map<string, string[]>();
  for (const [label, codes] of map) {
    for (const code of codes) labelsOf.set(code, [...(labelsOf.get(code) ?? []), label]);
  }
  return labelsOf;
}

function categoriesOf(
  { labels, others }: Pick<LabelledLine, 'labels' | 'others'>,
  labelsOf: ReadonlyMap<string, readonly string[]>,
): Map<string, Label> {
  const categories = new Map<string, Label>();
  for (const [code, names] of labelsOf) {
    const label = anyOf(names.map((name) => labels.get(name) ?? others));
    if (label !== null) categories.set(code, label);
  }
  return categories;
}

/** What the guard's own reading of a line finds wrong, with the line's number. */
function atLine<T>(line: number, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof ConversationError)) throw error;
    throw new EvaluationError('data-invalid', `line ${line}: ${error.message}`, { cause: error });
  }
}
