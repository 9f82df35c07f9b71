import { FormatError, PolicyError } from '../errors.ts';
import type { Frame } from '../instruction.ts';
import type { Role, Speaker } from '../messages.ts';
import { type Category, categoryBlock, type Policy } from '../policy.ts';
import type { PromptFormat } from './format.ts';
import { renderTemplate } from './jinja.ts';

/** A chat template and the names that it knows special tokens by. */
export interface ChatTemplate {
  /** What messages call it. */
  readonly source: string;
  readonly text: string;
  /** `bos_token` and the like, as they are spelt. */
  readonly tokens: Readonly<Record<string, string>>;
}

/** The fixed text around the turns of a rendered conversation, and between each two. */
interface Pieces {
  readonly before: string;
  readonly between: readonly string[];
  readonly after: string;
  readonly trims: boolean;
}

/** What category lists stand between, in all formats that have them. */
const markers = /(<BEGIN UNSAFE CONTENT CATEGORIES>\n)([\s\S]*?)(\n?<END UNSAFE CONTENT CATEGORIES>)/;

/**
 * A prompt format whose frame is the model folder's own. The template is rendered on conversations of marks, and the text
 * around those is the frame: so no message ever passes through a template, conversations of any order can be framed, and
 * it is known what is the frame's and what a person's. A template whose frame depends on what messages say cannot be read
 * so; it is refused.
 * @throws FormatError `template-invalid` where it cannot be rendered, `template-unsupported` where it cannot be read
 */
export function withChatTemplate(format: PromptFormat, template: ChatTemplate): PromptFormat {
  const frames = new Map<string, Frame>();
  const own = readFrame(template, 'user');
  const listed = own.before.match(markers)?.[2];
  const categories = listed === undefined ? [] : format.categoriesIn(listed);
  const policy: Policy = categories.length > 0 ? { name: format.name, categories } : format.policy;
  return {
    ...format,
    policy,
    takesPolicy: format.takesPolicy && listed !== undefined,
    frame(asked, role) {
      const key = `${role} ${asked.categories.map(categoryBlock).join('\n')}`;
      const frame = frames.get(key) ?? readFrame(template, role, asked === policy ? undefined : asked);
      frames.set(key, frame);
      return frame;
    },
  };
}

/** The frame for a judged role, with the template's own categories unless others are given. */
function readFrame(template: ChatTemplate, role: Role, policy?: Policy): Frame {
  const render = renderer(template);
  const categories = policy && categoriesVariable(policy);
  const takesCategories = categories && hasCategories(render);
  const variables = takesCategories ? { categories } : {};
  // Who speaks last is judged; templates count messages or look at the last one.
  const counts = role === 'user' ? [1, 3] : [2, 4];
  const [short, long] = counts.map((count) => render(count, variables)) as [Pieces, Pieces];
  const toAgent = long.between[0]!;
  const toUser = (role === 'user' ? long : render(3, variables)).between[1]!;
  const between = commonPrefix(toAgent, toUser);
  const opening = { User: toUser.slice(between.length), Agent: toAgent.slice(between.length) };
  const readable =
    short.before === long.before &&
    short.after === long.after &&
    long.before.endsWith(opening.User) &&
    long.between.every((text, i) => text === (i % 2 === 0 ? toAgent : toUser));
  if (!readable) {
    throw unsupported(template, 'the text around its messages depends on how many there are');
  }
  const before = long.before.slice(0, long.before.length - opening.User.length);
  const blocks = policy?.categories.map(categoryBlock).join('\n');
  return {
    before:
      blocks === undefined || takesCategories
        ? before
        : before.replace(markers, (_, begin, _own, end) => `${begin}${blocks}${end}`),
    opening,
    between,
    after: { User: long.after, Agent: long.after } satisfies Record<Speaker, string>,
    trims: long.trims,
  };
}

/** As Llama Guard 3 takes them: the lines of each category without its code, by its code. */
const categoriesVariable = ({ categories }: Policy): Record<string, string> =>
  Object.fromEntries(
    categories.map((category) => [category.code, categoryBlock(category).replace(`${category.code}: `, '')]),
  );

type Render = (count: number, variables: Readonly<Record<string, unknown>>) => Pieces;

function hasCategories(render: Render): boolean {
  const probe = mark('categories');
  return render(1, { categories: { P1: probe } }).before.includes(probe);
}

/** A text that no template has; private-use characters, so that none takes it for words. */
const mark = (name: string | number) => `\ue000${name}\ue001`;

/** Renders conversations of `count` alternating messages, marks in white space, and takes the marks out. */
function renderer(template: ChatTemplate): Render {
  const contents = (count: number) => Array.from({ length: count }, (_, i) => ` \n${mark(i)}\n `);
  const forms = {
    plain: (text: string) => text,
    // As multimodal templates take messages.
    parts: (text: string) => [{ type: 'text', text }],
  };
  const attempt = (form: keyof typeof forms, count: number, variables: Readonly<Record<string, unknown>>) => {
    const texts = contents(count);
    const messages = texts.map((text, i) => ({
      role: i % 2 === 0 ? 'user' : 'assistant',
      content: forms[form](text),
    }));
    const rendered = renderTemplate(template.text, {
      ...template.tokens,
      add_generation_prompt: true,
      ...variables,
      messages,
    });
    return { rendered, pieces: takeApart(rendered, texts) };
  };
  return (count, variables) => {
    try {
      const plain = tryOr(() => attempt('plain', count, variables));
      const pieces = plain.value?.pieces ?? attempt('parts', count, variables).pieces;
      if (pieces) return pieces;
      if (plain.error) throw plain.error;
    } catch (cause) {
      throw new FormatError('template-invalid', `${template.source}: ${(cause as Error).message}.`, { cause });
    }
    throw unsupported(template, 'it does not show every message once, in order and as it stands');
  };
}

function tryOr<T>(task: () => T): { readonly value?: T; readonly error?: unknown } {
  try {
    return { value: task() };
  } catch (error) {
    return { error };
  }
}

/** What is left of a text without the given ones, which must be there in order, all with the white space at their ends or all without. */
function takeApart(rendered: string, texts: readonly string[]): Pieces | undefined {
  for (const trims of [false, true]) {
    const rest: string[] = [];
    let at = 0;
    for (const text of texts.map((each) => (trims ? each.trim() : each))) {
      const found = rendered.indexOf(text, at);
      if (found === -1) break;
      rest.push(rendered.slice(at, found));
      at = found + text.length;
    }
    rest.push(rendered.slice(at));
    const whole = rest.length === texts.length + 1 && !rest.some((text) => /[\ue000\ue001]/.test(text));
    if (whole) return { before: rest[0]!, between: rest.slice(1, -1), after: rest.at(-1)!, trims };
  }
  return undefined;
}

function commonPrefix(a: string, b: string): string {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return a.slice(0, length);
}

const unsupported = ({ source }: ChatTemplate, why: string) =>
  new FormatError(
    'template-unsupported',
    `${source}: the chat template cannot be used, since ${why}. If the model was trained in a known prompt format, name ` +
      "it ('--prompt-format', or 'promptFormat' of Guard.load).",
  );

/** @throws PolicyError `policy-fixed` where the model cannot be asked about it */
export function assertAskable({ name, policy, takesPolicy }: PromptFormat, asked: Policy): void {
  if (takesPolicy || asked === policy || sameCategories(asked, policy)) return;
  throw new PolicyError(
    'policy-fixed',
    `Models of the format '${name}' know one policy, their own (${policy.categories.map((category: Category) => category.name).join(', ')}): leave the policy out.`,
  );
}

const sameCategories = (a: Policy, b: Policy): boolean =>
  a.categories.map(categoryBlock).join('\n') === b.categories.map(categoryBlock).join('\n');
