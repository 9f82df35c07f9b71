import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { parseCategoryMap } from '../guard/evaluation/category-map.ts';
import { formatNames, type ReadOptions, readSamples, type Sample } from '../guard/evaluation/data.ts';
import { builtInMaps, mapFile, readMap } from '../guard/evaluation/node/map-file.ts';
import { EvaluationError, type Policy } from '../guard/index.ts';
import { builtInPolicies, defaultPolicy } from '../guard/policies/index.ts';
import { shared } from './support/shared.ts';

const policy: Policy = {
  categories: [
    { code: 'O1', name: 'Violence' },
    { code: 'O2', name: 'Sex' },
  ],
};

async function read(lines: readonly unknown[], options: Partial<ReadOptions> = {}): Promise<Sample[]> {
  const samples: Sample[] = [];
  const texts = lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line)));
  for await (const sample of readSamples(texts, { policy, ...options })) samples.push(sample);
  return samples;
}
const categories = (sample: Sample | undefined) => Object.fromEntries(sample!.categories);
const messages = [{ role: 'user', content: 'x' }];

describe('generic lines', () => {
  it('keep id, line, role and labels', async () => {
    const samples = await read([
      { id: 'a', messages, unsafe: 1, categories: ['O2'] },
      '',
      { id: 7, messages: 'text', role: 'assistant', unsafe: 0 },
      { messages, unsafe: null },
    ]);
    expect(samples.map(({ id, line, role, unsafe }) => [id, line, role, unsafe])).toEqual([
      ['a', 1, undefined, 1],
      ['7', 3, 'agent', 0],
      ['line-4', 4, undefined, null],
    ]);
    expect(samples.map(categories)).toEqual([{ O1: 0, O2: 1 }, { O1: 0, O2: 0 }, {}]);
  });

  it('know of a category only what they tell', async () => {
    const samples = await read([
      { messages, unsafe: 1 },
      { messages, unsafe: 1, categories: [] },
      { messages, categories: [] },
      { messages, categories: ['O1'] },
    ]);
    expect(samples.map(categories)).toEqual([{}, {}, { O1: 0, O2: 0 }, { O1: 1, O2: 0 }]);
    expect(samples.map(({ unsafe }) => unsafe)).toEqual([1, 1, null, 1]);
  });

  it('may begin with a byte order mark and hold the NaN of Python', async () => {
    const [sample] = await read(['\ufeff{"messages":"a NaN \\" NaN","unsafe":NaN,"categories":NaN}']);
    expect(sample).toMatchObject({ messages: 'a NaN " NaN', unsafe: null });
    expect(categories(sample)).toEqual({});
  });

  it.each([
    ['data-invalid', /^line 2 is not JSON/, ['{"messages":"x"}', '{']],
    ['data-invalid', /^line 1: expected a JSON object, found an array/, ['[]']],
    ['data-invalid', /^line 1: it has no "messages"/, ['{}']],
    ['data-invalid', /^line 1: messages\[0\]\.role/, [{ messages: [{ role: 'nobody', content: 'x' }] }]],
    ['data-invalid', /^line 1: "role": the role that is judged/, [{ messages, role: 'system' }]],
    ['data-invalid', /^line 1: "id" is a string or a number, not an object/, [{ messages, id: {} }]],
    ['label-invalid', /^line 1: "unsafe" is 0, 1 or null, not 0\.5/, [{ messages, unsafe: 0.5 }]],
    ['label-invalid', /^line 1: "unsafe" is 0, 1 or null, not true/, [{ messages, unsafe: true }]],
    ['label-invalid', /^line 1: "unsafe" is 0, 1 or null, not "1"/, [{ messages, unsafe: '1' }]],
    ['label-invalid', /^line 1: "categories"/, [{ messages, categories: 'O1' }]],
    ['label-invalid', /^line 1: it is labelled safe and names O1/, [{ messages, unsafe: 0, categories: ['O1'] }]],
    ['category-unknown', /^line 1: the category "O9" .* O1, O2/, [{ messages, unsafe: 1, categories: ['O9'] }]],
    ['id-duplicate', /^line 3: .*"a".* line 1/, [{ id: 'a', messages }, '', { id: 'a', messages }]],
    ['id-duplicate', /^line 2: .*"line-2".* line 1/, [{ id: 'line-2', messages }, { messages }]],
  ])('are refused: %s, %s', async (code, message, lines) => {
    await expect(read(lines)).rejects.toThrow(EvaluationError);
    await expect(read(lines)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

test.each(formatNames)('malformed lines of %s fail by an error of their own, which names the line', async (format) => {
  const names = [
    'id',
    'messages',
    'role',
    'unsafe',
    'categories',
    'prompt',
    'S',
    'H2',
    'conv_id',
    'user_input',
    'toxicity',
  ];
  const field = fc.constantFrom(...names, 'jailbreaking', 'generation', 'label', 'unsafe_content', '__proto__');
  const value = fc.oneof(
    fc.jsonValue(),
    fc.constantFrom(0, 1, null, 'good', 'bad', 'x', ['O1'], [{ role: 'user', content: '' }]),
  );
  const line = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.dictionary(field, value).map((record) => JSON.stringify(record)),
    fc.record({ messages: fc.constant('x'), unsafe: fc.constantFrom(0, 1, null), id: fc.integer() }),
    fc.constant('{"prompt":"x","user_input":"x","S":NaN,"toxicity":NaN}'),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 5 }), async (lines) => {
      try {
        for (const { unsafe } of await read(lines, { format })) expect([0, 1, null]).toContain(unsafe);
      } catch (error) {
        expect(error).toBeInstanceOf(EvaluationError);
        expect((error as Error).message).toMatch(/^line [1-5][ :]/);
      }
    }),
  );
});

describe('the lines of OpenAI', () => {
  const format = 'openai-moderation';
  const map = parseCategoryMap({ S: 'O2', S3: 'O2', V: ['O1'], HR: null }, 'map', { policy });
  const all = { S: 0, H: 0, V: 0, HR: 0, SH: 0, S3: 0, H2: 0, V2: 0 };

  it('leave unknown what is not known', async () => {
    const samples = await read(
      [
        { prompt: 'a', ...all },
        { prompt: 'b', ...all, S: null },
        { prompt: 'c', HR: 1 },
        { prompt: 'd', S: 0, S3: 1 },
        '{"prompt":"e","S":NaN,"S3":0,"V":0}',
      ],
      { format, map },
    );
    expect(samples.map(({ unsafe }) => unsafe)).toEqual([0, null, 1, 1, null]);
    expect(samples.map(categories)).toEqual([{ O1: 0, O2: 0 }, { O1: 0 }, {}, { O2: 1 }, { O1: 0 }]);
    expect(samples[0]).toMatchObject({ messages: 'a', role: 'user', id: 'line-1' });
    const [assumed] = await read([{ prompt: 'b', ...all, S: null }], { format, map, assumeSafe: true });
    expect(assumed!.unsafe).toBe(0);
    expect(categories(assumed)).toEqual({ O1: 0 });
  });

  it.each(['2', '"1"', 'true', '-1', '[]'])('have no label %s', async (label) => {
    const lines = [`{"prompt":"a","H2":${label}}`];
    await expect(read(lines, { format })).rejects.toMatchObject({
      code: 'label-invalid',
      message: expect.stringMatching(/^line 1: "H2"/),
    });
  });

  const file = shared.moderationSamples;
  it.skipIf(!existsSync(file))('are read as published', async () => {
    const lines = gunzipSync(readFileSync(file)).toString().split('\n');
    const samples = await read(lines, { format });
    expect(samples).toHaveLength(1680);
    const counts = [1, 0, null].map((label) => samples.filter(({ unsafe }) => unsafe === label).length);
    expect(counts).toEqual([522, 337, 821]);
  });
});

test.each([
  ['toxicity', { toxicity: 1, jailbreaking: 0 }, 1, { O1: 0 }],
  ['no toxicity', { toxicity: 0, jailbreaking: 1 }, 0, { O1: 1 }],
  ['unknown labels', { toxicity: null }, null, {}],
])('a line of ToxicChat: %s', async (_, labels, unsafe, expected) => {
  const map = parseCategoryMap({ jailbreaking: 'O1' }, 'map', { policy, vocabulary: ['jailbreaking'] });
  const line = { conv_id: 'c', user_input: 'in', model_output: 'out', human_annotation: true, ...labels };
  const [sample] = await read([line], { format: 'toxicchat', map });
  expect(sample).toMatchObject({ id: 'c', messages: 'in', role: 'user', unsafe });
  expect(categories(sample)).toEqual(expected);
});

describe('the lines of Llama Guard', () => {
  const line = { prompt: 'ask', generation: 'reply', label: 'bad', unsafe_content: ['O1'] };

  it('are judged by prompt or by response', async () => {
    const [response] = await read([line], { format: 'llama-guard' });
    expect(response!.messages).toEqual([
      { role: 'user', content: 'ask' },
      { role: 'assistant', content: 'reply' },
    ]);
    expect(categories(response)).toEqual({ O1: 1, O2: 0 });
    const [prompt] = await read([{ ...line, label: 'good', unsafe_content: [] }], {
      format: 'llama-guard',
      role: 'user',
    });
    expect(prompt).toMatchObject({ unsafe: 0, role: 'user', messages: [{ role: 'user', content: 'ask' }] });
  });

  it('know no other words', async () => {
    await expect(read([{ ...line, label: 'unsafe' }], { format: 'llama-guard' })).rejects.toMatchObject({
      code: 'label-invalid',
      message: 'line 1: "label" is "good" or "bad", not "unsafe"',
    });
  });
});

describe('a category map', () => {
  const parse = (json: unknown, vocabulary?: readonly string[]) =>
    parseCategoryMap(json, 'map.json', { policy: defaultPolicy, ...(vocabulary ? { vocabulary } : {}) });

  it('is for any labels, or for those of a set', () => {
    expect([...parse({ a: 'O1', b: ['O2', 'O3'], c: null })]).toEqual([
      ['a', ['O1']],
      ['b', ['O2', 'O3']],
      ['c', []],
    ]);
    expect(() => parse({ S: 'O2', X: 'O1' }, ['S', 'H'])).toThrow(/map\.json: the data has no label "X"; it has S, H/);
  });

  it.each([
    ['category-unknown', { S: 'O9' }, /map\.json: "S" is mapped to "O9".* O1, O2/],
    ['map-invalid', { S: 1, H: {} }, /map\.json: "S", "H": expected/],
    ['map-invalid', [], /map\.json: the map: expected/],
  ])('is refused: %s', (code, json, message) => {
    expect(() => parse(json)).toThrow(message);
    expect(() => parse(json)).toThrow(expect.objectContaining({ code }));
  });

  it('names the line of its file', async () => {
    const path = join(mkdtempSync(join(tmpdir(), 'guard-map-')), 'map.json');
    const problemOf = async (text: string) => {
      writeFileSync(path, text);
      return readMap(path, { policy: defaultPolicy }).then(
        () => '',
        (error: Error) => error.message.slice(path.length),
      );
    };
    expect(await problemOf('{\n  "S": "H",\n  "H": "O1"\n}')).toMatch(/^, line 2: "S" is mapped to "H"/);
    expect(await problemOf('{\n  "a\\"b": "O1",\n\n  "\\u0048" : 7\n}')).toMatch(/^, line 4: "H": expected/);
    expect(await problemOf('[')).toMatch(/^ is not JSON: /);
    expect(await problemOf('{ "S": null }')).toBe('');
    rmSync(dirname(path), { recursive: true });
    await expect(readMap(path, { policy: defaultPolicy })).rejects.toMatchObject({ code: 'data-not-found' });
  });

  it('may be one of those that come with the package, by its name', async () => {
    const policies = { 'openai-moderation': defaultPolicy, 'paper-to-openai': builtInPolicies['openai-moderation'] };
    expect(Object.keys(policies)).toEqual(builtInMaps);
    for (const [name, policy] of Object.entries(policies)) {
      expect((await readMap(mapFile(name), { policy })).size).toBeGreaterThan(5);
    }
    expect(mapFile('mine.json')).toBe('mine.json');
  });

  it('serves a list of labels of its own', async () => {
    const [sample] = await read([{ messages, unsafe: 1, categories: ['gore'] }], {
      map: parse({ gore: 'O1', nude: 'O2' }),
    });
    expect(categories(sample)).toEqual({ O1: 1, O2: 0 });
  });
});
