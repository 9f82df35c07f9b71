import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { lastSpeaker, parseConversation, parseJsonLine, parseRole } from '../guard/conversation.ts';
import { ConversationError } from '../guard/errors.ts';

const parse = (value: unknown, roles = {}) => parseConversation(value, { roles });

function failure(action: () => unknown): { code: string; message: string } {
  try {
    action();
  } catch (error) {
    expect(error).toBeInstanceOf(ConversationError);
    return error as ConversationError;
  }
  throw new Error('nothing was thrown');
}

describe('parseConversation', () => {
  it('shows messages as turns', () => {
    const messages = [
      { role: 'user', content: 'a', name: 'Ann' },
      { role: 'assistant', content: '' },
      { role: 'agent', content: 'c' },
    ];
    expect(parse(messages)).toEqual([
      { speaker: 'User', text: 'a', messageIndex: 0 },
      { speaker: 'Agent', text: '', messageIndex: 1 },
      { speaker: 'Agent', text: 'c', messageIndex: 2 },
    ]);
  });

  it('takes a string for one user message', () => {
    expect(parse('hi')).toEqual([{ speaker: 'User', text: 'hi', messageIndex: 0 }]);
  });

  it('shows other roles as the policy says', () => {
    const messages = [
      { role: 'system', content: 'a' },
      { role: 'tool', content: 'b' },
    ];
    const turns = parse(messages, { system: 'User', tool: 'Agent' });
    expect(turns.map(({ speaker }) => speaker)).toEqual(['User', 'Agent']);
    expect(failure(() => parse(messages, { system: 'User' }))).toMatchObject({ code: 'role-unsupported' });
    expect(failure(() => parseConversation(messages, {})).message).toContain('"roles": {"system": "User"}');
  });

  it.each([
    ['nothing at all', [], 'conversation-empty', 'no message'],
    ['an object', {}, 'conversation-invalid', 'not an object'],
    ['null', null, 'conversation-invalid', 'not null'],
    ['a message that is a string', ['hi'], 'conversation-invalid', 'messages[0]: a message is an object'],
    ['a hole', Array(1), 'conversation-invalid', 'messages[0]'],
    ['no content', [{ role: 'user' }], 'conversation-invalid', 'messages[0].content: expected a string, found nothing'],
    ['parts', [{ role: 'user', content: [] }], 'conversation-invalid', 'join the text of its parts'],
    ['an unknown role', [{ role: 'User', content: '' }], 'role-unsupported', 'found "User"'],
    ['an inherited name', [{ role: 'constructor', content: '' }], 'role-unsupported', 'found "constructor"'],
    ['no role', [{ content: '' }], 'role-unsupported', 'found nothing'],
  ])('refuses %s', (_, value, code, message) => {
    const error = failure(() => parse(value));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });

  it('keeps every text, in order', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'binary' }), { minLength: 1 }), (texts) => {
        const turns = parse(texts.map((content) => ({ role: 'user', content })));
        expect(turns.map(({ text }) => text)).toEqual(texts);
      }),
    );
  });
});

describe('lastSpeaker', () => {
  it('is the role judged by default', () => {
    expect(lastSpeaker(parse('hi'))).toBe('user');
    expect(lastSpeaker(parse([{ role: 'assistant', content: '' }]))).toBe('agent');
    expect(failure(() => lastSpeaker([])).code).toBe('conversation-empty');
  });
});

describe('parseRole', () => {
  it('knows three names', () => {
    expect(['user', 'agent', 'assistant'].map((name) => parseRole(name, '--role'))).toEqual(['user', 'agent', 'agent']);
    expect(failure(() => parseRole('system', '--role')).message).toContain('--role: ');
  });
});

describe('parseJsonLine', () => {
  it('reads an array of messages', () => {
    expect(parseJsonLine('[{"role":"user","content":"hi"}]', 1)).toEqual({
      messages: [{ role: 'user', content: 'hi' }],
    });
  });

  it('reads an object, and ignores its other fields', () => {
    expect(parseJsonLine('{"id":7,"role":"assistant","messages":[],"unsafe":1}', 1)).toEqual({
      id: 7,
      role: 'agent',
      messages: [],
    });
    expect(parseJsonLine('{"id":null,"role":null,"messages":"hi"}', 1)).toEqual({ id: null, messages: 'hi' });
  });

  it('skips a byte order mark on the first line only', () => {
    expect(parseJsonLine('\ufeff[]', 1)).toEqual({ messages: [] });
    expect(failure(() => parseJsonLine('\ufeff[]', 2)).code).toBe('json-invalid');
  });

  it.each([
    ['{"messages"', 'json-invalid', 'line 3 is not JSON'],
    ['', 'json-invalid', 'line 3 is not JSON'],
    ['{"mesages":[]}', 'json-invalid', 'line 3: expected an array of messages or {"id"?, "role"?, "messages": [...]}'],
    ['{"__proto__":{"messages":[]}}', 'json-invalid', 'an object without "messages"'],
    ['"hi"', 'json-invalid', 'found a string'],
    ['null', 'json-invalid', 'found null'],
    ['{"role":"system","messages":[]}', 'role-unsupported', 'line 3: the role that is judged'],
  ])('refuses %s', (line, code, message) => {
    const error = failure(() => parseJsonLine(line, 3));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
  });
});
