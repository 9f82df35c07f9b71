import * as z from 'zod';
import { parseJsonText } from '../kernels/json.ts';
import { PolicyError } from './errors.ts';
import { isRewritten, neutralise } from './hostile/index.ts';
import { type Role, roles, type Speaker } from './messages.ts';

/** What is to be done with a conversation that violates a category, the strictest first. */
export const actions = ['block', 'review', 'allow'] as const;
export type Action = (typeof actions)[number];

/** How much of each category the model is told: its name, what it means too, or examples as well (few-shot). */
export const details = ['names', 'descriptions', 'examples'] as const;
export type Detail = (typeof details)[number];

/** A text whose verdict is known, shown to the model beneath its category. */
export interface CategoryExample {
  readonly text: string;
  /** Who says it, where that matters. */
  readonly role?: Role | undefined;
  readonly verdict: 'safe' | 'unsafe';
}

/** One kind of unsafe content. Every text is a single line and holds no marker of the instruction frame. */
export interface Category {
  /** What the model writes when the category is violated, e.g. `O3`: a letter, then letters, digits, `_`, `.` or `-`. */
  readonly code: string;
  /** Without a full stop at its end: the frame adds one. */
  readonly name: string;
  /** Its lines in the instruction to the letter, where a model was trained on them; what is told beside them is not shown. */
  readonly verbatim?: string | undefined;
  readonly description?: string | undefined;
  readonly shouldNot?: readonly string[] | undefined;
  readonly can?: readonly string[] | undefined;
  readonly examples?: readonly CategoryExample[] | undefined;
  /** Score from which this category counts as violated, whatever the threshold of the check. */
  readonly threshold?: number | undefined;
  /** What to do where it is violated; `block` unless told. */
  readonly action?: Action | undefined;
}

/** What counts as unsafe. Order matters: the model reads the categories as they stand. */
export interface Policy {
  readonly name?: string | undefined;
  readonly categories: readonly Category[];
  /** As which speaker messages of these roles are shown; messages of a role that is not named here are refused. */
  readonly roles?: { readonly system?: Speaker | undefined; readonly tool?: Speaker | undefined } | undefined;
}

const textWithout = (problemOf: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const problem = problemOf(text);
    if (problem !== undefined) context.addIssue(problem);
  });

/** A text that the frame puts on a line of its own. */
const line = textWithout((text) => lineProblem(text) ?? markerProblem(text));

const code = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_.-]*$/, 'a code is a letter, then letters, digits, "_", "." or "-", as in "O3"')
  .refine((text) => !/^(?:user|agent)$/i.test(text), '"User" and "Agent" at the start of a line are the speakers');

const category = z.strictObject({
  code: code.describe('What the model writes when the category is violated, such as O3.'),
  name: line.describe('Without a full stop at its end: the frame adds one.'),
  description: line.optional().describe('What the category means, in a line.'),
  shouldNot: z.array(line).optional().describe('What the agent should not do.'),
  can: z.array(line).optional().describe('What is allowed all the same.'),
  examples: z
    .array(
      z.strictObject({
        text: line,
        role: z.enum(roles).optional(),
        verdict: z.enum(['safe', 'unsafe']),
      }),
    )
    .optional()
    .describe('Texts whose verdict is known, shown to the model beneath the category.'),
  threshold: z.number().min(0).max(1).optional().describe('Score from which the category counts as violated.'),
  action: z.enum(actions).optional().describe('What to do where it is violated; block unless told.'),
});

const speaker = z.enum(['User', 'Agent']);

const policyOf = (category: z.ZodType<Category>): z.ZodType<Policy & { readonly $schema?: string | undefined }> =>
  z
    .strictObject({
      $schema: z.string().optional(),
      name: line.optional(),
      categories: z.array(category).min(1, 'a policy needs at least one category'),
      roles: z.strictObject({ system: speaker.optional(), tool: speaker.optional() }).optional(),
    })
    .superRefine(assertToldApart, {
      // Even where other fields are wrong, so that one look tells all that is.
      when: ({ value }) => Array.isArray((value as Partial<Policy> | null)?.categories),
    });

/** A policy as it stands in a file. */
export const policySchema = policyOf(category);

/** A policy as programs hold it: of a prompt format's own categories, perhaps. */
const heldSchema = policyOf(category.extend({ verbatim: textWithout(markerProblem).optional() }));

/** @param policy whose categories need not be valid themselves */
function assertToldApart({ categories }: Policy, context: z.RefinementCtx): void {
  const places = new Map<string, number>();
  for (const [index, category] of categories.entries()) {
    const code: unknown = category?.code;
    if (typeof code !== 'string') continue;
    const first = places.get(code.toLowerCase());
    if (first === undefined) places.set(code.toLowerCase(), index);
    else {
      const message = `${JSON.stringify(code)} is also the code of categories[${first}]; case does not tell codes apart`;
      context.addIssue({ code: 'custom', path: ['categories', index, 'code'], message });
    }
  }
  for (const [index, category] of categories.entries()) {
    const description: unknown = category?.description;
    const label = typeof description === 'string' ? description.match(/^\s*([^\s:]+)\s*:/)?.[1] : undefined;
    if (label !== undefined && places.has(label.toLowerCase())) {
      const message = `begins with "${label}:" and would read as a category of its own; reword its beginning`;
      context.addIssue({ code: 'custom', path: ['categories', index, 'description'], message });
    }
  }
}

/**
 * Checks a policy that came as JSON. Unknown fields are refused, since a misspelt one would silently change what is judged.
 *
 * @param source what the error message begins with: the file's name, or the option's
 * @throws PolicyError `policy-invalid`, naming every field that is wrong
 */
export function parsePolicy(json: unknown, source: string): Policy {
  const { $schema: _, ...policy } = validated(policySchema, json, source);
  return policy;
}

/**
 * Checks a policy that a program made.
 * @param source what the error message begins with
 * @throws PolicyError `policy-invalid`, naming every field that is wrong
 */
export function assertValid(policy: Policy, source: string): void {
  validated(heldSchema, policy, source);
}

function validated<T>(schema: z.ZodType<T>, value: unknown, source: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new PolicyError('policy-invalid', `${source}: ${result.error.issues.map(describeIssue).join('; ')}`);
}

/** Checks a policy that came as the text of a file. @throws PolicyError `policy-invalid` */
export function parsePolicyText(text: string, source: string): Policy {
  let json: unknown;
  try {
    json = parseJsonText(text);
  } catch (cause) {
    throw new PolicyError('policy-invalid', `${source} is not JSON: ${(cause as Error).message}.`, { cause });
  }
  return parsePolicy(json, source);
}

/**
 * The policy with some of its categories only, in the order of `codes`.
 *
 * @throws PolicyError `policy-invalid` for a code that the policy does not have or that is named twice, or for no code at all
 */
export function selectCategories(policy: Policy, codes: readonly string[]): Policy {
  if (codes.length === 0) throw new PolicyError('policy-invalid', 'no category selected: name at least one');
  const twice = codes.find((code, i) => codes.indexOf(code) < i);
  if (twice !== undefined) {
    throw new PolicyError('policy-invalid', `the category ${JSON.stringify(twice)} is selected twice: name it once`);
  }
  return { ...policy, categories: codes.map((code) => categoryOf(policy, code)) };
}

/**
 * The policy without some of its categories.
 *
 * @throws PolicyError `policy-invalid` for a code that the policy does not have, or where no category is left
 */
export function excludeCategories(policy: Policy, codes: readonly string[]): Policy {
  const excluded = new Set(codes.map((code) => categoryOf(policy, code)));
  const categories = policy.categories.filter((category) => !excluded.has(category));
  if (categories.length === 0)
    throw new PolicyError('policy-invalid', 'every category is excluded: leave at least one');
  return { ...policy, categories };
}

/** The policy with no more than so much told of each category. */
export function atDetail(policy: Policy, detail: Detail): Policy {
  if (detail === 'examples') return policy;
  const categories = policy.categories.map(({ verbatim, description, shouldNot, can, examples, ...rest }) =>
    detail === 'names' ? rest : { ...rest, verbatim, description, shouldNot, can },
  );
  return { ...policy, categories };
}

/** A category as the instruction lists it: `CODE: Name.`, then its body, a line each; no line break at the end. */
export function categoryBlock(category: Category): string {
  const { code, name, verbatim, description, shouldNot = [], can = [], examples = [] } = category;
  if (verbatim !== undefined) return verbatim;
  const ofVerdict = (wanted: CategoryExample['verdict']) =>
    examples
      .filter(({ verdict }) => verdict === wanted)
      .map(({ role, text }) => (role === undefined ? text : `(${role === 'user' ? 'User' : 'Agent'}) ${text}`));
  return [
    `${code}: ${name}.`,
    ...(description === undefined ? [] : [description]),
    ...list('Should not', shouldNot),
    ...list('Can', can),
    ...list('Unsafe examples', ofVerdict('unsafe')),
    ...list('Safe examples', ofVerdict('safe')),
  ].join('\n');
}

/**
 * Makes sure that a tokenizer can tell the policy's codes apart: otherwise the model would read, write and be scored on
 * two categories as if they were one.
 *
 * @param encode text to ids, without BOS
 * @param unknownId the id that stands for what the vocabulary lacks, where the tokenizer has one
 * @param written what the model writes for a category; its code unless told
 * @throws PolicyError `policy-ambiguous`
 */
export function assertDistinguishable(
  policy: Pick<Policy, 'categories'>,
  encode: (text: string) => readonly number[],
  unknownId?: number,
  written: (category: Category) => string = ({ code }) => code,
): void {
  const codeOfIds = new Map<string, string>();
  for (const category of policy.categories) {
    const code = written(category);
    const ids = encode(code);
    if (ids.length === 0 || (unknownId !== undefined && ids.includes(unknownId))) {
      throw new PolicyError(
        'policy-ambiguous',
        `the tokenizer cannot write the code ${JSON.stringify(code)}; choose one like "O1", of plain letters and digits`,
      );
    }
    const key = ids.join(' ');
    const other = codeOfIds.get(key);
    if (other !== undefined) {
      throw new PolicyError(
        'policy-ambiguous',
        `the codes ${JSON.stringify(other)} and ${JSON.stringify(code)} are the same tokens [${ids.join(', ')}] to this ` +
          'tokenizer; rename one of them',
      );
    }
    codeOfIds.set(key, code);
  }
}

function categoryOf({ categories }: Policy, code: string): Category {
  const found = categories.find((category) => category.code === code);
  if (found !== undefined) return found;
  const known = categories.map((category) => category.code).join(', ');
  throw new PolicyError('policy-invalid', `the policy has no category ${JSON.stringify(code)}; it has ${known}`);
}

function list(heading: string, items: readonly string[]): string[] {
  return items.length === 0 ? [] : [heading, ...items.map((item) => `- ${item}`)];
}

function lineProblem(text: string): string | undefined {
  if (text.trim() === '') return 'must not be empty';
  if (/[\n\v\f\r\x85\u2028\u2029]/.test(text)) return 'must be a single line: replace its line breaks by spaces';
  return undefined;
}

function markerProblem(text: string): string | undefined {
  const broken = neutralise(text).suspicions.find(({ kind }) => isRewritten(kind));
  if (broken === undefined) return undefined;
  return `must not hold ${JSON.stringify(broken.text)}, which would break the instruction's frame`;
}

function describeIssue(issue: z.core.$ZodIssue): string {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${fieldPath([...issue.path, key])}: unknown field`).join('; ');
  }
  return `${fieldPath(issue.path)}: ${issue.message}`;
}

function fieldPath(path: readonly PropertyKey[]): string {
  const joined = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${String(step)}`)).join('');
  return joined.replace(/^\./, '') || 'the policy';
}
