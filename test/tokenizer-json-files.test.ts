import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { embeddedModel } from '../guard/node/load.ts';
import { HuggingFaceTokenizer, SentencePieceTokenizer, TokenizerError } from '../tokenizer/index.ts';
import { loadTokenizer } from '../tokenizer/load.node.ts';
import { type FamilyName, fixtureFiles, loadFiles } from './support/tokenizer-fixtures.ts';

// biome-ignore lint/suspicious/noExplicitAny: files are changed anywhere, to anything
type Json = Record<string, any>;

/** A family's files with some of their JSON changed; `undefined` takes a file away. */
async function changed(
  family: FamilyName,
  change: (files: { json: Json; config: Json; map: Json }) => unknown,
): Promise<Map<string, string>> {
  const files = await fixtureFiles(family);
  const names = { json: 'tokenizer.json', config: 'tokenizer_config.json', map: 'special_tokens_map.json' } as const;
  const parsed = Object.fromEntries(Object.entries(names).map(([key, name]) => [key, JSON.parse(files.get(name)!)]));
  change(parsed as { json: Json; config: Json; map: Json });
  for (const [key, name] of Object.entries(names)) files.set(name, JSON.stringify(parsed[key]));
  return files;
}

describe('a tokenizer.json is refused', () => {
  const invalid = 'tokenizer-invalid';
  const unsupported = 'tokenizer-unsupported';
  const step = (json: Json, place: number) => json.pre_tokenizer.pretokenizers[place];

  const refused: [
    name: string,
    code: string,
    message: RegExp,
    change: (files: { json: Json; config: Json; map: Json }) => unknown,
    family?: FamilyName,
  ][] = [
    ['without a model', invalid, /tokenizer\.json: 'model'/, ({ json }) => delete json.model],
    ['of words', unsupported, /'model\.type' is "WordPiece"/, ({ json }) => (json.model.type = 'WordPiece')],
    ['without merges', invalid, /'model\.merges'/, ({ json }) => delete json.model.merges],
    ['that drops merges', unsupported, /'model\.dropout' is 0\.1/, ({ json }) => (json.model.dropout = 0.1)],
    [
      'with affixes',
      unsupported,
      /'model\.end_of_word_suffix'/,
      ({ json }) => (json.model.end_of_word_suffix = '</w>'),
    ],
    [
      'with an id twice',
      invalid,
      /'model\.vocab\["b"\]' is \d+, which is "a"/,
      ({ json }) => (json.model.vocab.b = json.model.vocab.a),
    ],
    [
      'with an id below 0',
      invalid,
      /'model\.vocab\["b"\]' must be .* but is -1/,
      ({ json }) => (json.model.vocab.b = -1),
    ],
    [
      'with half an id',
      invalid,
      /'model\.vocab\["b"\]' must be .* but is 0\.5/,
      ({ json }) => (json.model.vocab.b = 0.5),
    ],
    [
      'with an id beyond all',
      invalid,
      /'model\.vocab\["b"\]' must be .* but is 1000000000/,
      ({ json }) => (json.model.vocab.b = 1e9),
    ],
    ['with half a character', invalid, /a piece that is no text/, ({ json }) => (json.model.vocab['\ud800'] = 2047)],
    ['without a byte', invalid, /no piece "a" for the byte 97/, ({ json }) => delete json.model.vocab.a],
    [
      'with a byte that is an added token',
      invalid,
      /no piece "a" for the byte 97/,
      ({ json }) => json.added_tokens.push({ id: json.model.vocab.a, content: 'a' }),
    ],
    [
      'with a merge of one piece',
      invalid,
      /'model\.merges\[3\]' must be two pieces, but is "abc"/,
      ({ json }) => (json.model.merges[3] = 'abc'),
    ],
    ['with a merge of three', invalid, /'model\.merges\[3\]'/, ({ json }) => (json.model.merges[3] = 'a b c')],
    [
      'with a merge of numbers',
      invalid,
      /'model\.merges\[3\]' must be two pieces, but is \[1,2\]/,
      ({ json }) => (json.model.merges[3] = [1, 2]),
    ],
    [
      'with a merge of what is not there',
      invalid,
      /'model\.merges\[3\]' needs "qqqq"/,
      ({ json }) => (json.model.merges[3] = 'qqqq a'),
    ],
    [
      'with a merge to what is not there',
      invalid,
      /'model\.merges\[3\]' needs "▁a▁a"/,
      ({ json }) => (json.model.merges[3] = ['\u2581a', '\u2581a']),
      'mistral',
    ],
    [
      'with an added token of no letters',
      invalid,
      /'added_tokens\[0\]\.content' is ""/,
      ({ json }) => (json.added_tokens[0].content = ''),
    ],
    [
      'with an added token twice',
      invalid,
      /'added_tokens' has <\|end_of_text\|> twice/,
      ({ json }) => (json.added_tokens[0].content = '<|end_of_text|>'),
    ],
    [
      'with two added tokens of an id',
      invalid,
      /is 1793, which is/,
      ({ json, config }) => [delete config.added_tokens_decoder, Object.assign(json.added_tokens[0], { id: 1793 })],
    ],
    [
      'with added tokens without end',
      invalid,
      /tokenizer\.json: it has 10256 added tokens of \d+ characters/,
      ({ json }) => {
        for (let i = 0; i < 10_000; i++)
          json.added_tokens.push({ id: 2048 + i, content: `<|${String(i).padEnd(40, '.')}|>` });
      },
    ],
    [
      'with an added token that must stand alone',
      invalid,
      /'added_tokens\[0\]\.single_word'/,
      ({ json }) => (json.added_tokens[0].single_word = true),
    ],
    [
      'that a configuration contradicts',
      invalid,
      /tokenizer_config\.json: 'added_tokens_decoder' says that <\|begin_of_text\|> is 7/,
      ({ config }) => (config.added_tokens_decoder = { 7: config.added_tokens_decoder[1792] }),
    ],
    ['whose BOS is nobody', invalid, /no BOS token "<bos>"/, ({ config }) => (config.bos_token = '<bos>')],
    ['whose EOS is nobody', invalid, /no EOS token "<eos>"/, ({ config }) => (config.eos_token = { content: '<eos>' })],
    [
      'with a normalizer that loses text',
      unsupported,
      /'normalizer\.type' is "Lowercase": its type must be NFC/,
      ({ json }) => (json.normalizer = { type: 'Lowercase' }),
    ],
    [
      'with one that does not fit',
      unsupported,
      /'normalizer' is Prepend, Replace, but .* must be nothing/,
      ({ json }) =>
        (json.normalizer = {
          type: 'Sequence',
          normalizers: [
            { type: 'Prepend', prepend: '\u2581' },
            { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
          ],
        }),
    ],
    [
      'with a field that nobody knows',
      unsupported,
      /'pre_tokenizer\.pretokenizers\[1\]'.*Unrecognized key: "fast"/,
      ({ json }) => (step(json, 1).fast = true),
    ],
    [
      'with a step that nobody knows',
      unsupported,
      /'pre_tokenizer\.pretokenizers\[0\].*type must be Split or ByteLevel/,
      ({ json }) => (step(json, 0).type = 'Digits'),
    ],
    [
      'that goes on after bytes',
      unsupported,
      /'pre_tokenizer\.pretokenizers'.*ByteLevel must be the last/,
      ({ json }) => json.pre_tokenizer.pretokenizers.reverse(),
    ],
    [
      'with a pattern that never ends',
      unsupported,
      /pretokenizers\[0\]\.pattern\.Regex' is "\(a\+\)\+\$": patterns .* Llama 3, Qwen/,
      ({ json }) => (step(json, 0).pattern.Regex = '(a+)+$'),
    ],
    [
      'that drops what its pattern finds',
      unsupported,
      /others drop text/,
      ({ json }) => (step(json, 0).behavior = 'Removed'),
    ],
    [
      'that puts a space in front',
      unsupported,
      /add_prefix_space' is true/,
      ({ json }) => (step(json, 1).add_prefix_space = true),
    ],
    [
      'that splits at spaces',
      unsupported,
      /'pre_tokenizer\.split' is true/,
      ({ json }) => (json.pre_tokenizer.split = true),
      'mistral',
    ],
    [
      'without bytes for what it lacks',
      unsupported,
      /'model\.byte_fallback' is false/,
      ({ json }) => (json.model.byte_fallback = false),
      'mistral',
    ],
    ['with a decoder that nobody knows', unsupported, /'decoder/, ({ json }) => (json.decoder = { type: 'CTC' })],
    [
      'with a decoder of another kind',
      unsupported,
      /'decoder' is Fuse, but/,
      ({ json }) => (json.decoder = { type: 'Sequence', decoders: [{ type: 'Fuse' }] }),
    ],
    [
      'with a post-processor that nobody knows',
      unsupported,
      /'post_processor/,
      ({ json }) => (json.post_processor = { type: 'BertProcessing', sep: ['a', 1], cls: ['b', 2] }),
    ],
    [
      'that puts two tokens in front',
      invalid,
      /'post_processor\.single' must be/,
      ({ json }) => json.post_processor.single.unshift(json.post_processor.single[0]),
    ],
    [
      'that puts in front what is not there',
      invalid,
      /'post_processor\.single' must be/,
      ({ json }) => (json.post_processor.special_tokens = {}),
    ],
  ];
  it.each(refused)('%s', async (_, code, message, change, family = 'llama-3') => {
    const loading = loadFiles(await changed(family, change));
    await expect(loading).rejects.toThrow(TokenizerError);
    await expect(loading).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it.each([
    ['', /is no JSON/],
    ['{', /is no JSON/],
    ['[]', /'it' is \[\]/],
    ['{"model": {"vocab": {"a": 0, "a": 1}, "merges": []}}', /the name "a" twice/],
    [`${'['.repeat(100)}${']'.repeat(100)}`, /nested deeper/],
  ])('that is %s', async (text, message) => {
    const loading = loadFiles(new Map([['tokenizer.json', text]]));
    await expect(loading).rejects.toMatchObject({ code: 'tokenizer-invalid', message: expect.stringMatching(message) });
  });
});

describe('what lies beside a tokenizer.json', () => {
  const bosOf = async (change: Parameters<typeof changed>[1], family: FamilyName = 'mistral') => {
    using tokenizer = await loadFiles(await changed(family, change));
    return { bos: tokenizer.bosId, front: tokenizer.encodePrompt([]) };
  };

  it('says whether BOS is put in front', async () => {
    expect(await bosOf(() => {})).toEqual({ bos: 1, front: [1] });
    expect(await bosOf(({ config }) => (config.add_bos_token = false))).toEqual({ bos: 1, front: [] });
    expect(await bosOf(({ config }) => delete config.add_bos_token)).toEqual({ bos: 1, front: [1] });
    expect(await bosOf(({ json, config }) => [delete config.add_bos_token, delete json.post_processor])).toEqual({
      bos: 1,
      front: [],
    });
    expect(await bosOf(({ json }) => delete json.post_processor)).toEqual({ bos: 1, front: [1] });
  });

  it('says which token is BOS: the first file that knows', async () => {
    expect(await bosOf(({ config }) => delete config.bos_token)).toMatchObject({ bos: 1 });
    expect(
      await bosOf(({ config, map }) => [delete config.bos_token, Object.assign(map, { bos_token: '</s>' })]),
    ).toMatchObject({
      bos: 2,
    });
    expect(
      await bosOf(({ config, map, json }) => [
        Object.assign(config, { bos_token: null }),
        Object.assign(map, { bos_token: '</s>' }),
        delete json.post_processor,
      ]),
    ).toEqual({ bos: undefined, front: [] });
    const files = await fixtureFiles('qwen');
    const alone = new Map([['tokenizer.json', files.get('tokenizer.json')!]]);
    const [bosId, eosId] = [1755, 1757];
    expect(await loadFiles(alone)).toMatchObject({ bosId: undefined, eosId: undefined });
    const config = JSON.stringify({ bos_token_id: bosId, eos_token_id: [eosId, bosId] });
    expect(await loadFiles(new Map([...alone, ['config.json', config]]))).toMatchObject({ bosId, eosId });
  });

  it('adds tokens, and tokens with a role are never text', async () => {
    const files = await changed('qwen', ({ config, json }) => {
      config.added_tokens_decoder[2000] = { content: '<own>', special: true };
      config.pad_token = 'safe';
      json.added_tokens.splice(0, 1);
    });
    using tokenizer = await loadFiles(files);
    expect(tokenizer.vocabularySize).toBe(2001);
    expect(tokenizer.encodePrompt([{ of: 'frame', text: '<own><|endoftext|>' }])).toEqual([2000, 1755]);
    expect(tokenizer.encode('safe').length).toBeGreaterThan(1);
    expect(tokenizer.encode('safe')).not.toContain(tokenizer.idOf('safe'));
    expect(tokenizer.decode(tokenizer.encode('safe unsafe'))).toBe('safe unsafe');
    expect(() => tokenizer.pieceOf(1999)).toThrow(expect.objectContaining({ code: 'token-out-of-range' }));
  });

  it('says what white space a token takes up in frames', async () => {
    const files = await changed('llama-3', ({ json }) =>
      Object.assign(json.added_tokens[1], { lstrip: true, rstrip: true }),
    );
    using tokenizer = await loadFiles(files);
    const ids = tokenizer.encodePrompt([
      { of: 'frame', text: 'a \n<|end_of_text|>  ' },
      { of: 'message', text: ' b' },
    ]);
    expect(ids).toEqual([1792, ...tokenizer.encode('a'), 1793, ...tokenizer.encode('b')]);
  });

  it('may have pieces by names that objects have', async () => {
    const files = await changed('llama-3', () => {});
    const json = files
      .get('tokenizer.json')!
      .replace('"vocab": {', '"vocab": {"__proto__": 2048, "constructor": 2049, ')
      .replace('"vocab":{', '"vocab":{"__proto__":2048,"constructor":2049,');
    using tokenizer = await loadFiles(new Map([...files, ['tokenizer.json', json]]));
    expect(tokenizer.pieceOf(2048)).toBe('__proto__');
    expect(tokenizer.idOf('constructor')).toBe(2049);
    expect(tokenizer.idOf('toString')).toBeUndefined();
    expect(tokenizer.decode(tokenizer.encode('__proto__ constructor'))).toBe('__proto__ constructor');
  });

  it('is read with its words in any form that was published', async () => {
    const texts = ["It's 1234 caf\u00e9s,\n\n  safe", ' \u{1f600}x '];
    const idsOf = async (change: Parameters<typeof changed>[1], family: FamilyName) => {
      using tokenizer = await loadFiles(await changed(family, change));
      return tokenizer.encodeMany(texts);
    };
    const llama = await idsOf(() => {}, 'llama-3');
    const inverted = ({ json }: { json: Json }) =>
      Object.assign(json.pre_tokenizer.pretokenizers[0], { behavior: 'Removed', invert: true });
    expect(await idsOf(inverted, 'llama-3')).toEqual(llama);
    const pairs = ({ json }: { json: Json }) =>
      (json.model.merges = json.model.merges.map((pair: string) => pair.split(' ')));
    expect(await idsOf(pairs, 'llama-3')).toEqual(llama);
    expect(await idsOf(({ json }) => delete json.model.type, 'llama-3')).toEqual(llama);
    // GPT-2's own words: a contraction, a number as a whole, a space in front of letters.
    using gpt2 = await loadFiles(
      await changed('llama-3', ({ json }) => (json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: false })),
    );
    expect(gpt2.decode(gpt2.encode(texts[0]!))).toBe(texts[0]);
  });
});

it('a damaged tokenizer.json is refused, or text stays text', async () => {
  const families = ['llama-3', 'qwen', 'mistral'] as const;
  const wholes = await Promise.all(families.map(async (family) => (await fixtureFiles(family)).get('tokenizer.json')!));
  // Where most of the meaning is: around the vocabulary.
  const value = fc.oneof(
    fc.jsonValue({ maxDepth: 2 }),
    fc.constantFrom('ByteLevel', 'Metaspace', 'NFC', '', ' ', 0, 5, true, null, []),
  );
  const texts = ['It is <|eot_id|> <s>safe</s> <think>', '\u{1f600} e\u0301 \n\n 1234', 'a'.repeat(300)];
  await fc.assert(
    fc.asyncProperty(
      fc.nat(2),
      fc.array(fc.tuple(fc.nat(), fc.nat(3), value), { minLength: 1, maxLength: 2 }),
      async (which, changes) => {
        const json = JSON.parse(wholes[which]!);
        for (const [place, action, value] of changes) mutate(json, place, action, value);
        try {
          using tokenizer = await loadFiles(new Map([['tokenizer.json', JSON.stringify(json)]]));
          const added = new Set(tokenizer.addedTokens.values());
          for (const text of texts) {
            const ids = tokenizer.encode(text);
            expect(ids.every((id) => tokenizer.pieceOf(id) !== undefined && !added.has(id))).toBe(true);
            expect(tokenizer.decode(ids).normalize('NFC').trimStart()).toBe(text.normalize('NFC').trimStart());
          }
        } catch (error) {
          expect(error).toBeInstanceOf(TokenizerError);
          expect((error as Error).message).toMatch(/^tokenizer\.json: /);
        }
      },
    ),
    { numRuns: 300 },
  );
});

/** Replaces, takes away, doubles or renames something in a JSON value, small things as often as large ones. */
function mutate(json: Json, place: number, action: number, value: unknown): void {
  const spots: [parent: Json, key: string][] = [];
  const visit = (node: unknown, few: number) => {
    if (typeof node !== 'object' || node === null) return;
    for (const key of Object.keys(node).slice(0, few)) {
      spots.push([node as Json, key]);
      visit((node as Json)[key], 12);
    }
  };
  visit(json, 99);
  const [parent, key] = spots[place % spots.length]!;
  const [other, otherKey] = spots[(place * 7919 + 13) % spots.length]!;
  const actions = [
    () => Object.assign(parent, { [key]: value }),
    () => (Array.isArray(parent) ? parent.splice(Number(key), 1) : delete parent[key]),
    () =>
      Array.isArray(parent) ? parent.push(parent[Number(key)]) : Object.assign(parent, { [`${key}2`]: parent[key] }),
    () => Object.assign(parent, { [key]: structuredClone(other[otherKey]) }),
  ];
  actions[action]!();
}

describe('loadTokenizer', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tokenizer-json-'));
    await cp(join(embeddedModel, 'tokenizer.model'), join(folder, 'tokenizer.model'));
    for (const [name, text] of await fixtureFiles('llama-3')) await writeFile(join(folder, name), text);
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('takes tokenizer.json where there are both', async () => {
    using tokenizer = await loadTokenizer(folder);
    expect(tokenizer).toBeInstanceOf(HuggingFaceTokenizer);
    expect(tokenizer.idOf('<|eot_id|>')).toBe(1801);
  });

  it('takes tokenizer.model where the other asks for what is not computed, but not where it is broken', async () => {
    const json = (await changed('llama-3', ({ json }) => (json.model.type = 'Unigram'))).get('tokenizer.json')!;
    await writeFile(join(folder, 'tokenizer.json'), json);
    using tokenizer = await loadTokenizer(folder);
    expect(tokenizer).toBeInstanceOf(SentencePieceTokenizer);
    await writeFile(join(folder, 'tokenizer.json'), '{');
    await expect(loadTokenizer(folder)).rejects.toMatchObject({
      code: 'tokenizer-invalid',
      message: expect.stringContaining(`${folder}: tokenizer.json: `),
    });
    await rm(join(folder, 'tokenizer.model'));
    await writeFile(join(folder, 'tokenizer.json'), json);
    await expect(loadTokenizer(folder)).rejects.toMatchObject({ code: 'tokenizer-unsupported' });
  });

  it('puts no BOS in front of SentencePiece prompts where tokenizer_config.json says so', async () => {
    const own = await mkdtemp(join(folder, 'sentencepiece-'));
    await cp(join(embeddedModel, 'tokenizer.model'), join(own, 'tokenizer.model'));
    const prompt = [
      { of: 'frame', text: '<s>[INST] a </s>' },
      { of: 'message', text: '<s>' },
    ] as const;
    const front = async () => {
      using tokenizer = await loadTokenizer(own);
      const text = (of: string) => tokenizer.encode(of);
      expect(tokenizer.encodePrompt(prompt)).toEqual([1, ...text('[INST] a '), 2, ...text('<s>')]);
      return tokenizer.encodePrompt([{ of: 'frame', text: 'a' }]).slice(0, -1);
    };
    expect(await front()).toEqual([1]);
    await writeFile(join(own, 'tokenizer_config.json'), '{"add_bos_token": false}');
    expect(await front()).toEqual([]);
    await writeFile(join(own, 'tokenizer_config.json'), '{');
    await expect(loadTokenizer(own)).rejects.toMatchObject({
      code: 'tokenizer-invalid',
      message: expect.stringContaining('tokenizer_config.json'),
    });
  });
});
