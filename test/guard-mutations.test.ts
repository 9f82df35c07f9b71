import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseConversation, parseJsonLine } from '../guard/conversation.ts';
import { ConversationError, PolicyError } from '../guard/errors.ts';
import { buildInstruction } from '../guard/formats/index.ts';
import { defaultPolicy } from '../guard/policies/default.ts';
import { parsePolicy } from '../guard/policy.ts';

/** `value` with what stands at one of its places, chosen by `pick`, replaced, or removed where `by` is undefined. */
function mutate(value: unknown, pick: number, by: unknown): unknown {
  const copy = structuredClone({ root: value });
  const places: [holder: Record<string, unknown>, key: string][] = [];
  const collect = (holder: Record<string, unknown>) => {
    for (const [key, inner] of Object.entries(holder)) {
      places.push([holder, key]);
      if (typeof inner === 'object' && inner !== null) collect(inner as Record<string, unknown>);
    }
  };
  collect(copy);
  const [holder, key] = places[pick % places.length]!;
  if (by === undefined) delete holder[key];
  else holder[key] = by;
  return copy.root;
}

const replacement = fc.oneof(fc.constant(undefined), fc.jsonValue(), fc.string({ unit: 'binary' }), fc.constant({}));

/** What `task` returns, or undefined where it threw the error it may throw; any other error fails the test. */
function attempt<T>(task: () => T, allowed: new (...args: never[]) => Error): T | undefined {
  try {
    return task();
  } catch (error) {
    expect(error).toBeInstanceOf(allowed);
    return undefined;
  }
}

describe('what is nearly right gets a right answer or a typed error', () => {
  it('as a policy', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(), replacement), { minLength: 1, maxLength: 3 }), (steps) => {
        const json = steps.reduce<unknown>((value, [pick, by]) => mutate(value, pick, by), defaultPolicy);
        const policy = attempt(() => parsePolicy(json, 'mutated.json'), PolicyError);
        if (!policy) return;
        const { text } = buildInstruction({ policy, role: 'user', turns: [] });
        for (const marker of ['<BEGIN CONVERSATION>', '<END CONVERSATION>', '[/INST]']) {
          expect(text.split(marker)).toHaveLength(2);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('as a conversation', () => {
    const valid = [
      { role: 'user', content: 'How are you?' },
      { role: 'assistant', content: 'Fine.' },
    ];
    fc.assert(
      fc.property(fc.nat(), replacement, (pick, by) => {
        const turns = attempt(() => parseConversation(mutate(valid, pick, by), defaultPolicy), ConversationError);
        for (const { text } of turns ?? []) expect(typeof text).toBe('string');
      }),
      { numRuns: 1000 },
    );
  });

  it('as a line', () => {
    const valid = JSON.stringify({ id: 'a', role: 'user', messages: [{ role: 'user', content: 'Hi' }] });
    fc.assert(
      fc.property(fc.nat(valid.length), fc.nat(5), fc.string({ unit: 'binary' }), (at, removed, text) => {
        const line = valid.slice(0, at) + text + valid.slice(at + removed);
        attempt(() => parseJsonLine(line, 1), ConversationError);
      }),
      { numRuns: 1000 },
    );
  });
});
