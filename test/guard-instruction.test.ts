import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { buildInstruction } from '../guard/formats/index.ts';
import type { Turn } from '../guard/messages.ts';
import { embeddedModel } from '../guard/node/load.ts';
import { defaultPolicy } from '../guard/policies/default.ts';
import { parsePolicy, selectCategories } from '../guard/policy.ts';
import { type ReferenceCase, reference } from './support/tiny-guard.ts';

const policy = parsePolicy(JSON.parse(readFileSync(`${embeddedModel}/policy.json`, 'utf8')), 'policy.json');

const turnsOf = (turns: ReferenceCase['turns']): Turn[] =>
  turns.map(({ role, text }, messageIndex) => ({ speaker: role, text, messageIndex }));

describe('buildInstruction', () => {
  it.each(reference.cases)('writes the prompt of $name byte for byte', ({ role, categories, turns, prompt }) => {
    const instruction = buildInstruction({
      policy: selectCategories(policy, categories),
      role: role === 'User' ? 'user' : 'agent',
      turns: turnsOf(turns),
    });
    expect(instruction.text).toBe(prompt);
    expect(instruction.prefix + instruction.conversation + instruction.suffix).toBe(prompt);
    expect(instruction.parts.map(({ text }) => text).join('')).toBe(prompt);
    expect(instruction.parts.filter((part) => part.of === 'message').map(({ text }) => text)).toEqual(
      turns.map(({ text }) => text),
    );
  });

  it('has a prefix and a suffix that do not depend on the conversation', () => {
    const build = (text: string) =>
      buildInstruction({ policy: defaultPolicy, role: 'agent', turns: [{ speaker: 'User', text, messageIndex: 0 }] });
    const [one, other] = [build('one'), build('$& other\n')];
    expect(one.prefix).toBe(other.prefix);
    expect(one.suffix).toBe(other.suffix);
    expect(one.prefix).toMatch(/\n\n<BEGIN CONVERSATION>\n\n$/);
    expect(other.conversation).toBe('User: $& other\n');
  });
});
