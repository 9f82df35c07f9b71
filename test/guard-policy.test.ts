import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PolicyError } from '../guard/errors.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { defaultPolicy } from '../guard/policies/default.ts';
import { assertDistinguishable, categoryBlock, parsePolicy, selectCategories } from '../guard/policy.ts';

const minimal = { categories: [{ code: 'O1', name: 'Spam' }] };
const withCategory = (fields: object) => ({ categories: [{ code: 'O1', name: 'Spam', ...fields }] });

function problemOf(json: unknown): string {
  try {
    parsePolicy(json, 'my.json');
  } catch (error) {
    expect(error).toBeInstanceOf(PolicyError);
    expect((error as PolicyError).code).toBe('policy-invalid');
    return (error as PolicyError).message;
  }
  throw new Error('the policy was accepted');
}

describe('parsePolicy', () => {
  it('takes the embedded model’s policy as it is', () => {
    const json: unknown = JSON.parse(readFileSync(`${embeddedModel}/policy.json`, 'utf8'));
    expect(parsePolicy(json, 'policy.json')).toEqual(json);
  });

  it('takes the default policy, which has the six categories of the paper', () => {
    expect(parsePolicy(defaultPolicy, 'default')).toEqual(defaultPolicy);
    expect(defaultPolicy.categories.map(({ code }) => code)).toEqual(['O1', 'O2', 'O3', 'O4', 'O5', 'O6']);
  });

  it('takes every field', () => {
    const full = {
      name: 'shop',
      categories: [
        {
          code: 'S-1.a_b',
          name: 'Spam',
          description: 'Unwanted advertising.',
          shouldNot: ['Advertise.'],
          can: ['Recommend when asked.'],
          examples: [{ text: 'Buy now!', role: 'user', verdict: 'unsafe' }],
        },
      ],
      roles: { system: 'User', tool: 'Agent' },
    };
    expect(parsePolicy(full, 'full')).toEqual(full);
  });

  it.each([
    ['not an object', 'text', 'my.json: the policy: Invalid input: expected object'],
    ['no categories', {}, 'categories: '],
    ['an empty list', { categories: [] }, 'at least one category'],
    ['an unknown field', { ...minimal, systemRole: 'User' }, 'systemRole: unknown field'],
    ['an unknown field in a category', withCategory({ descripton: 'x' }), 'categories[0].descripton: unknown field'],
    ['a missing name', { categories: [{ code: 'O1' }] }, 'categories[0].name: '],
    ['an empty name', withCategory({ name: ' ' }), 'categories[0].name: must not be empty'],
    ['a line break in a name', withCategory({ name: 'a\u2028b' }), 'categories[0].name: must be a single line'],
    ['a line break in a list', withCategory({ can: ['a', 'b\nc'] }), 'categories[0].can[1]: must be a single line'],
    [
      'a marker',
      withCategory({ description: 'x < end  Conversation > y' }),
      'categories[0].description: must not hold',
    ],
    ['an instruction end', withCategory({ shouldNot: ['[/INST]'] }), 'categories[0].shouldNot[0]: must not hold'],
    ['a turn', withCategory({ description: 'User: hello' }), 'categories[0].description: must not hold "User:"'],
    ['a category in a description', withCategory({ description: 'o1 : Other.' }), 'read as a category of its own'],
    ['a bad role', { ...minimal, roles: { system: 'user' } }, 'roles.system: '],
    [
      'a bad verdict',
      withCategory({ examples: [{ text: 'x', verdict: 'bad' }] }),
      'categories[0].examples[0].verdict: ',
    ],
  ])('refuses %s', (_, json, message) => {
    expect(problemOf(json)).toContain(message);
    expect(problemOf(json)).toMatch(/^my\.json: /);
  });

  it.each(['', '1', 'O 1', 'O,1', 'O1\n', 'Ö1', 'O1:', 'User', 'agent'])('refuses the code %j', (code) => {
    expect(problemOf({ categories: [{ code, name: 'Spam' }] })).toContain('categories[0].code: ');
  });

  it('refuses codes that differ in case only, and names both', () => {
    const categories = [...minimal.categories, { code: 'o1', name: 'Fraud' }];
    expect(problemOf({ categories })).toContain('categories[1].code: "o1" is also the code of categories[0]');
  });

  it('tells of equal codes beside whatever else is wrong', () => {
    const message = problemOf({
      categories: [{ code: 'O1', name: '' }, { code: 'O1', name: 'A', descripton: 'O1: x' }, null, { code: 2 }],
      extra: 1,
    });
    for (const part of ['[0].name', '[1].code: "O1" is also', '[1].descripton: unknown', '[2]', '[3].code', 'extra']) {
      expect(message).toContain(part);
    }
  });

  it('names every field that is wrong', () => {
    const message = problemOf({ categories: [{ code: '?', name: '' }], extra: 1 });
    for (const part of ['categories[0].code', 'categories[0].name', 'extra']) expect(message).toContain(part);
  });
});

describe('selectCategories', () => {
  it('keeps the order asked for', () => {
    const selected = selectCategories({ ...defaultPolicy, roles: { tool: 'Agent' } }, ['O5', 'O2']);
    expect(selected.categories.map(({ code }) => code)).toEqual(['O5', 'O2']);
    expect(selected.roles).toEqual({ tool: 'Agent' });
  });

  it('refuses a code that is not there, and none at all', () => {
    expect(() => selectCategories(defaultPolicy, ['O7'])).toThrow('no category "O7"; it has O1, O2');
    expect(() => selectCategories(defaultPolicy, [])).toThrow(PolicyError);
    expect(() => selectCategories(defaultPolicy, ['O1', 'O2', 'O1'])).toThrow('"O1" is selected twice');
  });
});

describe('categoryBlock', () => {
  it('is the name alone where there is no more', () => {
    expect(categoryBlock({ code: 'O1', name: 'Spam' })).toBe('O1: Spam.');
  });

  it('lists all that a category says', () => {
    const block = categoryBlock({
      code: 'O1',
      name: 'Spam',
      description: 'Unwanted advertising.',
      shouldNot: ['Advertise.', 'Beg.'],
      can: ['Recommend.'],
      examples: [
        { text: 'Which one is good?', verdict: 'safe' },
        { text: 'Buy now!', role: 'agent', verdict: 'unsafe' },
      ],
    });
    expect(block.split('\n')).toEqual([
      'O1: Spam.',
      'Unwanted advertising.',
      'Should not',
      '- Advertise.',
      '- Beg.',
      'Can',
      '- Recommend.',
      'Unsafe examples',
      '- (Agent) Buy now!',
      'Safe examples',
      '- Which one is good?',
    ]);
  });
});

describe('assertDistinguishable', () => {
  const policy = { categories: ['O1', 'O10', 'P1'].map((code) => ({ code, name: 'x' })) };
  const bytes = (text: string) => [...text].map((letter) => letter.charCodeAt(0));

  it('takes codes of which one begins like another', () => {
    expect(() => assertDistinguishable(policy, bytes, 0)).not.toThrow();
  });

  it('refuses codes with equal ids, and names both', () => {
    const digitsOnly = (text: string) => bytes(text.slice(1));
    expect(() => assertDistinguishable(policy, digitsOnly)).toThrow(/"O1" and "P1" are the same tokens \[49\]/);
  });

  it('refuses a code that the tokenizer cannot write', () => {
    const unknowing = (text: string) => bytes(text).map((byte) => (byte === 80 ? 0 : byte));
    expect(() => assertDistinguishable(policy, unknowing, 0)).toThrow(/cannot write the code "P1"/);
    expect(() => assertDistinguishable(policy, unknowing)).not.toThrow();
    expect(() => assertDistinguishable(policy, () => [])).toThrow(PolicyError);
  });
});
