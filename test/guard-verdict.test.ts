import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultPolicy } from '../guard/policies/default.ts';
import { parseVerdict } from '../guard/verdict.ts';
import { reference } from './support/tiny-guard.ts';

const codes = defaultPolicy.categories.map(({ code }) => code);
const read = (text: string) => parseVerdict(text, defaultPolicy);

describe('parseVerdict', () => {
  it.each(['safe', ' safe'])('reads %j', (text) => {
    expect(read(text)).toEqual({ verdict: 'safe' });
  });

  it('reads any list of the policy’s codes', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray(codes, { minLength: 1 }), fc.boolean(), (categories, space) => {
        const text = `${space ? ' ' : ''}unsafe\n${categories.join(',')}`;
        expect(read(text)).toEqual({ verdict: 'unsafe', categories });
      }),
    );
  });

  it.each(reference.cases)('reads the completion of $name', ({ completion }) => {
    expect(read(completion).verdict).toBe(completion.split('\n')[0]);
  });

  it.each([
    ['', 'not-a-verdict'],
    ['  safe', 'not-a-verdict'],
    ['Safe', 'not-a-verdict'],
    ['safe\n', 'not-a-verdict'],
    ['safe ', 'not-a-verdict'],
    ['safe\nO1', 'not-a-verdict'],
    ['unsafely', 'not-a-verdict'],
    ['unsafe O1', 'not-a-verdict'],
    ['unsafe\r\nO1', 'not-a-verdict'],
    ['unsafe', 'no-categories'],
    ['unsafe\n', 'no-categories'],
    ['unsafe\nO7', 'unknown-category'],
    ['unsafe\no1', 'unknown-category'],
    ['unsafe\nO1,', 'unknown-category'],
    ['unsafe\nO1, O2', 'unknown-category'],
    ['unsafe\nO1\n', 'unknown-category'],
    ['unsafe\nconstructor', 'unknown-category'],
    ['unsafe\nO1,O2,O1', 'repeated-category'],
  ])('does not understand %j', (text, reason) => {
    expect(read(text)).toEqual({ verdict: 'indeterminate', text, reason });
  });
});
