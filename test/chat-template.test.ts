import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { diskFolder } from '../engine/node/disk-folder.ts';
import { FormatError } from '../guard/errors.ts';
import { folderFormat } from '../guard/folder-format.ts';
import { assertAskable, withChatTemplate } from '../guard/formats/chat-template.ts';
import {
  formatNamed,
  llamaGuard1,
  llamaGuard2,
  llamaGuard3,
  type PromptFormat,
  promptFormats,
  qwen3Guard,
  recogniseFormat,
  wildGuard,
} from '../guard/formats/index.ts';
import { instructionOf } from '../guard/instruction.ts';
import type { Role, Turn } from '../guard/messages.ts';
import type { Policy } from '../guard/policy.ts';

interface Oracle {
  readonly conversations: Readonly<Record<string, readonly string[]>>;
  readonly categories: Readonly<Record<string, string>>;
  readonly prompts: Readonly<Record<string, Readonly<Record<'own' | 'given', Readonly<Record<string, string>>>>>>;
}

const oracle: Oracle = JSON.parse(readFileSync(new URL('./oracles/prompts.json', import.meta.url), 'utf8'));
const templateNamed = (name: string) =>
  readFileSync(new URL(`../bench/make-model/templates/${name}.jinja`, import.meta.url), 'utf8');
const conversations = Object.entries(oracle.conversations);
const tokens = { bos_token: '<s>', eos_token: '</s>' };

const formatOf = (name: string): PromptFormat => {
  const text = templateNamed(name);
  return withChatTemplate(recogniseFormat({ template: text, name }), { source: name, text, tokens });
};
const turnsOf = (texts: readonly string[]): Turn[] =>
  texts.map((text, i) => ({ speaker: i % 2 === 0 ? 'User' : 'Agent', text, messageIndex: i }));
const judged = (texts: readonly string[]): Role => (texts.length % 2 === 0 ? 'agent' : 'user');
const promptOf = (format: PromptFormat, policy: Policy, texts: readonly string[]) =>
  instructionOf(format.frame(policy, judged(texts)), turnsOf(texts)).text;

describe.each(Object.entries(oracle.prompts))('the chat template %s', (name, { own, given }) => {
  const format = formatOf(name);

  it.each(conversations)('frames %s as the reference renders it', (conversation, texts) => {
    expect(promptOf(format, format.policy, texts)).toBe(own[conversation]);
  });

  it("marks what of a prompt is the frame's", () => {
    const texts = ['one', 'two', 'three'];
    const { parts } = instructionOf(format.frame(format.policy, 'user'), turnsOf(texts));
    expect(parts.filter((part) => part.of === 'message').map(({ text }) => text)).toEqual(texts);
  });

  it('knows its categories', () => {
    const text = own['an answer']!.match(/<BEGIN UNSAFE CONTENT CATEGORIES>\n([\s\S]*)\n<END UNSAFE/)![1];
    const policy = format.policy.categories.map(({ verbatim }) => verbatim).join('\n');
    // What is only asked about a user's messages is not in a prompt about an agent's.
    expect(name === 'qwen3guard' ? policy.replace('\nJailbreak.', '') : policy).toBe(text);
    for (const { name } of format.policy.categories) expect(name).toMatch(/^\S.*[^. ]$/);
  });

  it('takes other categories', () => {
    const categories = Object.entries(oracle.categories).map(([code, text]) => ({
      code,
      name: text.split('\n')[0]!.replace(/\.$/, ''),
      ...(text.includes('\n') ? { description: text.split('\n')[1]! } : {}),
    }));
    for (const [conversation, texts] of conversations) {
      const prompt = promptOf(format, { categories }, texts);
      const expected = name.startsWith('llama-guard-3') ? given : own;
      const outside = (text: string) => text.split(/<BEGIN UNSAFE[\s\S]*<END UNSAFE CONTENT CATEGORIES>/);
      expect(outside(prompt)).toEqual(outside(expected[conversation]!));
      expect(prompt).toContain(
        '<BEGIN UNSAFE CONTENT CATEGORIES>\nS1: Cooking.\nRecipes of any kind.\nS7: Gardening.\n<END UNSAFE',
      );
      if (name.startsWith('llama-guard-3')) expect(prompt).toBe(given[conversation]);
    }
  });

  it('frames conversations that it would not render itself', () => {
    const turns: Turn[] = [
      { speaker: 'Agent', text: 'first', messageIndex: 0 },
      { speaker: 'Agent', text: 'second', messageIndex: 1 },
    ];
    const frame = format.frame(format.policy, 'user');
    const { conversation } = instructionOf(frame, turns);
    expect(conversation).toBe(`${frame.opening.Agent}first${frame.between}${frame.opening.Agent}second`);
  });

  it('never sees a message', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const frame = format.frame(format.policy, 'user');
        const { prefix, conversation, suffix } = instructionOf({ ...frame, trims: false }, turnsOf([text]));
        expect([prefix, conversation, suffix]).toEqual([frame.before, frame.opening.User + text, frame.after.User]);
      }),
    );
  });
});

describe('formats', () => {
  it('are recognised by the chat template, or by name', () => {
    const recognised = (template: string) => recogniseFormat({ template: templateNamed(template), name: 'x' });
    expect(recognised('llama-guard-1')).toBe(llamaGuard1);
    expect(recognised('llama-guard-2')).toBe(llamaGuard2);
    expect(recognised('llama-guard-3')).toBe(llamaGuard3);
    expect(recognised('llama-guard-3-parts')).toBe(llamaGuard3);
    expect(recognised('qwen3guard')).toBe(qwen3Guard);
    expect(recogniseFormat({ name: 'wildguard' })).toBe(wildGuard);
    expect(recogniseFormat({ name: 'LlamaGuard-7b' })).toBe(llamaGuard1);
    for (const format of promptFormats) expect(formatNamed(format.name)).toBe(format);
    expect(() => formatNamed('x')).toThrow(/format 'x'.*llama-guard-1/);
    expect(() => recogniseFormat({ template: '{{ messages }}', name: 'chat' })).toThrow(FormatError);
  });

  it.each([
    ['llama-guard-1', llamaGuard1, '<s>'],
    ['llama-guard-2', llamaGuard2, ''],
    ['llama-guard-3', llamaGuard3, ''],
  ])('%s is the same built in as from a template', (name, builtIn, before) => {
    const { own } = oracle.prompts[name]!;
    const { policy } = formatOf(name);
    for (const [conversation, texts] of conversations) {
      // The template takes the white space off, which is a message's own where nothing says otherwise.
      const shown = texts.map((text) => text.trim());
      expect(before + promptOf(builtIn, policy, shown)).toBe(own[conversation]);
    }
  });

  it('Qwen3Guard asks about prompts and responses in its own words', () => {
    const ask = (role: Role) => instructionOf(qwen3Guard.frame(qwen3Guard.policy, role), turnsOf(['Hi', 'Ho'])).text;
    expect(ask('user')).toContain("whether THE LAST USER's query belongs");
    expect(ask('user')).toContain('\nJailbreak.\n<END');
    expect(ask('user')).not.toContain('Refusal');
    expect(ask('agent')).toContain("3) Determine if THE LAST ASSISTANT's response is a refusal");
    expect(ask('agent')).not.toContain('Jailbreak');
    expect(ask('agent')).toMatch(/\n\nUSER: Hi\n\nASSISTANT: Ho\n\n<END CONVERSATION>/);
    expect(ask('agent')).toMatch(/<\|im_end\|>\n<\|im_start\|>assistant\n<think>\n\n<\/think>\n\n$/);
  });

  it('WildGuard shows a request alone with an empty response', () => {
    const ask = (texts: readonly string[]) => promptOf(wildGuard, wildGuard.policy, texts);
    expect(ask(['Hi'])).toMatch(
      /\n\nHuman user:\nHi\n\nAI assistant:\n\n\n---\n\nAnswers: \[\/INST\]\n<\|assistant\|>\n$/,
    );
    expect(ask(['Hi', 'Ho'])).toMatch(/\n\nHuman user:\nHi\n\nAI assistant:\nHo\n\n---\n\nAnswers:/);
  });

  it('say which policies they can be asked about', () => {
    expect(() => assertAskable(wildGuard, llamaGuard1.policy)).toThrow(/know one policy/);
    expect(() => assertAskable(wildGuard, structuredClone(wildGuard.policy))).not.toThrow();
    expect(() => assertAskable(qwen3Guard, llamaGuard1.policy)).not.toThrow();
  });
});

describe('completions', () => {
  const read = (format: PromptFormat, text: string, role: Role = 'user') =>
    format.answer.parse(text, { policy: format.policy, role });

  it.each([
    [llamaGuard1, ' unsafe\nO3,O1', ['O3', 'O1']],
    [llamaGuard2, 'unsafe\nS2', ['S2']],
    [llamaGuard2, ' unsafe\nS2', ['S2']],
    [llamaGuard3, '\n\nunsafe\nS14', ['S14']],
    [qwen3Guard, 'Safety: Unsafe\nCategories: Violent, Suicide & Self-Harm', ['Violent', 'SelfHarm']],
    [qwen3Guard, 'Safety: Controversial\nCategories: None\nRefusal: No', []],
    [wildGuard, ' Harmful request: yes\nResponse refusal: no\nHarmful response: N/A', []],
  ])('%o', (format, text, categories) => {
    expect(read(format, text)).toMatchObject({ verdict: 'unsafe', categories });
  });

  it.each([
    [llamaGuard1, 'safe'],
    [llamaGuard3, '\n\nsafe'],
    [qwen3Guard, 'Safety: Safe\nCategories: None'],
    [wildGuard, 'Harmful request: no\nResponse refusal: no\nHarmful response: no'],
  ])('%o', (format, text) => {
    expect(read(format, text)).toEqual({ verdict: 'safe' });
  });

  it.each([
    [llamaGuard1, '\n\nunsafe\nO1', 'not-a-verdict'],
    [llamaGuard3, '\n\n\nsafe', 'not-a-verdict'],
    [qwen3Guard, 'Safety: Unsafe\nCategories: Cooking', 'unknown-category'],
    [qwen3Guard, 'Safety: Unsafe\nCategories: PII, PII', 'repeated-category'],
    [qwen3Guard, 'Safety: Unsafe', 'not-a-verdict'],
    [wildGuard, 'Harmful request: maybe', 'not-a-verdict'],
  ])('%o', (format, text, reason) => {
    expect(read(format, text)).toEqual({ verdict: 'indeterminate', text, reason });
  });

  it('of WildGuard are read for the role that is judged', () => {
    const text = 'Harmful request: yes\nResponse refusal: yes\nHarmful response: no';
    expect(read(wildGuard, text, 'user')).toMatchObject({ verdict: 'unsafe' });
    expect(read(wildGuard, text, 'agent')).toMatchObject({ verdict: 'safe' });
    const alone = 'Harmful request: no\nResponse refusal: N/A\nHarmful response: N/A';
    expect(read(wildGuard, alone, 'agent')).toMatchObject({ verdict: 'indeterminate' });
  });
});

describe('a bad chat template', () => {
  const usable = templateNamed('llama-guard-3');
  const use = (text: string) => withChatTemplate(llamaGuard3, { source: 'folder/chat_template.jinja', text, tokens });

  it.each([
    ['that is no Jinja', '{% if %}', 'template-invalid'],
    ['that raises', "{{ raise_exception('no') }}", 'template-invalid'],
    ['that loops', '{% for i in range(100000000) %}{% endfor %}', 'template-invalid'],
    ['that loops in loops', `${'{% for i in range(9999) %}'.repeat(4)}${'{% endfor %}'.repeat(4)}`, 'template-invalid'],
    [
      'that grows a text',
      "{% set ns = namespace(s='xx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      'template-invalid',
    ],
    ['that calls itself', '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}', 'template-invalid'],
    ['that is endless', 'x'.repeat(70_000), 'template-invalid'],
    ['that asks for what is not there', "{{ messages[9]['content'] + 'x' }}", 'template-invalid'],
    ['that shows no message', 'Is this safe?', 'template-unsupported'],
    ['that shows the last message only', "{{ messages[-1]['content'] }}", 'template-unsupported'],
    [
      'that shows messages backwards',
      '{% for m in messages | reverse %}{{ m.content }}{% endfor %}',
      'template-unsupported',
    ],
    [
      'that shows messages twice',
      '{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}',
      'template-unsupported',
    ],
    ['that changes messages', '{% for m in messages %}{{ m.content | length }}{% endfor %}', 'template-unsupported'],
    [
      'that counts messages',
      '{% for m in messages %}{{ loop.index }}: {{ m.content }}{% endfor %}',
      'template-unsupported',
    ],
  ])('%s is refused', (_, text, code) => {
    expect(() => use(text)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining('folder/chat_template.jinja: ') }),
    );
  });

  it('is refused or right, whatever is done to one, and soon', () => {
    fc.assert(
      fc.property(fc.nat(usable.length), fc.nat(40), fc.string({ maxLength: 12 }), (at, gone, text) => {
        try {
          const format = use(usable.slice(0, at) + text + usable.slice(at + gone));
          const frame = format.frame(format.policy, 'user');
          expect(instructionOf(frame, turnsOf(['Hi'])).text).toContain('Hi');
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('the chat template of a folder', () => {
  const folder = mkdtempSync(join(tmpdir(), 'guard-template-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const open = (files: Readonly<Record<string, unknown>>, named?: string) => {
    for (const name of readdirSync(folder)) rmSync(join(folder, name));
    for (const [name, content] of Object.entries(files)) {
      writeFileSync(join(folder, name), typeof content === 'string' ? content : JSON.stringify(content));
    }
    return folderFormat({ folder: diskFolder(folder) }, named);
  };
  const [one, three] = [templateNamed('llama-guard-1'), templateNamed('llama-guard-3')];

  it('is found in any of its places, a file of its own first', async () => {
    const config = { chat_template: one, bos_token: { content: '<bos>' } };
    const inConfig = await open({ 'tokenizer_config.json': config });
    expect(inConfig.name).toBe('llama-guard-1');
    expect(inConfig.frame(inConfig.policy, 'user').before).toMatch(/^<bos>\[INST\]/);
    expect((await open({ 'tokenizer_config.json': config, 'chat_template.jinja': three })).name).toBe('llama-guard-3');
    expect((await open({ 'chat_template.json': { chat_template: three } })).name).toBe('llama-guard-3');
    const several = [
      { name: 'tool_use', template: one },
      { name: 'default', template: three },
    ];
    expect((await open({ 'tokenizer_config.json': { chat_template: several } })).name).toBe('llama-guard-3');
    expect(await open({ 'tokenizer_config.json': {} })).toBe(llamaGuard1);
    expect(await open({ 'chat_template.jinja': one }, 'qwen3guard')).toBe(qwen3Guard);
  });

  it.each([
    [{ 'tokenizer_config.json': '{' }, /tokenizer_config\.json/],
    [{ 'tokenizer_config.json': { chat_template: 3 } }, /'chat_template'/],
    [{ 'chat_template.json': {} }, /'chat_template'/],
    [{ 'chat_template.jinja': '{% for m in messages %}' }, /chat template of/],
    [{ 'chat_template.jinja': `${three}{% endfor %}` }, /chat_template\.jinja/],
  ])('is refused where it is broken: %o', async (files, message) => {
    await expect(open(files)).rejects.toThrow(FormatError);
    await expect(open(files)).rejects.toThrow(message);
  });
});
