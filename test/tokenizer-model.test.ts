import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SentencePieceTokenizer, TokenizerError } from '../tokenizer/index.ts';
import { loadTokenizer } from '../tokenizer/load.node.ts';
import { PieceType, parseSentencePieceModel } from '../tokenizer/model-proto.ts';
import { SentencePieceRuntime } from '../tokenizer/runtime.ts';

const TINY = 'guard/models/tiny-guard';

// A writer of protocol buffers that can also write what no real writer would.
const varint = (value: number): number[] =>
  value < 128 ? [value] : [(value % 128) | 128, ...varint(Math.floor(value / 128))];
const integer = (number: number, value: number) => [...varint(number * 8), ...varint(value)];
const bytes = (number: number, value: readonly number[]) => [
  ...varint(number * 8 + 2),
  ...varint(value.length),
  ...value,
];
const text = (number: number, value: string) => bytes(number, [...new TextEncoder().encode(value)]);
const float = (number: number, value: number) => [
  ...varint(number * 8 + 5),
  ...new Uint8Array(Float32Array.of(value).buffer),
];

const piece = (spelling: string, type: number = PieceType.normal, score = 0) =>
  bytes(1, [...text(1, spelling), ...float(2, score), ...integer(3, type)]);
const specials = [
  ...piece('<unk>', PieceType.unknown),
  ...piece('<s>', PieceType.control),
  ...piece('</s>', PieceType.control),
];
const trainer = (...fields: number[]) => bytes(2, [...integer(3, 2), ...fields]);
const emptySpecs = [...bytes(2, []), ...bytes(3, [])];
const model = (...parts: number[][]) => Uint8Array.from([...emptySpecs, ...specials, ...parts.flat()]);
const bareModel = (...parts: number[][]) => Uint8Array.from([...emptySpecs, ...parts.flat()]);

const refusal = (message: RegExp) =>
  expect.objectContaining({
    name: 'TokenizerError',
    code: 'tokenizer-invalid',
    message: expect.stringMatching(message),
  });

describe('a model made by hand', () => {
  it('works', async () => {
    using tokenizer = await SentencePieceTokenizer.fromBytes(
      model(piece('\u2581'), piece('a'), piece('b'), piece('ab', PieceType.normal, 1), trainer()),
    );
    expect(tokenizer.vocabularySize).toBe(7);
    expect(tokenizer.encode('ab ba?').map((id) => tokenizer.pieceOf(id))).toEqual([
      '\u2581',
      'ab',
      '\u2581',
      'b',
      'a',
      '<unk>',
    ]);
  });

  it('may say how its special pieces are spelled', () => {
    const parts = [
      ...piece('?', PieceType.unknown),
      ...piece('[BOS]', PieceType.control),
      ...piece('[EOS]', PieceType.control),
    ];
    const names = trainer(...text(45, '?'), ...text(46, '[BOS]'), ...text(47, '[EOS]'), ...text(44, '(?)'));
    expect(parseSentencePieceModel(bareModel(names, parts, piece('a')))).toMatchObject({
      unknownId: 0,
      bosId: 1,
      eosId: 2,
      unknownSurface: '(?)',
    });
  });

  it('encodes 20,000 texts without growing', async () => {
    // Nothing merges and leading spaces go, so that what a call might leave behind, 1 KB of text and 1 KB of ids, is
    // much for the time that it takes: 20,000 times either is more than the 16 MB that the heap begins with.
    using tokenizer = await SentencePieceTokenizer.fromBytes(model(piece('\u2581'), piece('a'), trainer()));
    const text = ' '.repeat(900) + 'a'.repeat(300);
    expect(tokenizer.encode(text)).toHaveLength(301);
    const before = tokenizer.heapBytes;
    for (let run = 0; run < 20_000; run++) tokenizer.count(text);
    expect(tokenizer.heapBytes).toBe(before);
  });

  const refused: [name: string, bytes: Uint8Array, message: RegExp][] = [
    ['nothing', new Uint8Array(), /it is empty/],
    ['zeros', new Uint8Array(100), /field number 0/],
    ['text', new TextEncoder().encode('version https://git-lfs.example/spec/v1\n'), /not a usable SentencePiece model/],
    ['no pieces', bareModel(), /no pieces/],
    ['no specs', Uint8Array.from(specials), /spec is missing, as if cut short/],
    ['a piece cut short', Uint8Array.from(specials.slice(0, 10)), /needs \d+ bytes and \d+ are left/],
    [
      'a length beyond the end',
      model([0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
      /needs \d+ bytes and 0 are left/,
    ],
    ['an endless number', model([0x0a, ...new Array<number>(12).fill(0xff)]), /longer than 64 bits/],
    ['a number cut short', model([0x0a, 0xff]), /ends within a number/],
    ['a group', model([0x0b]), /wire type 3/],
    ['a piece that is a number', model(integer(1, 5)), /field 1 is varint/],
    ['a type that is a string', model(bytes(1, [...text(1, 'a'), ...text(3, 'x')])), /field 3 is bytes/],
    ['a score that is a number', model(bytes(1, [...text(1, 'a'), ...integer(2, 1)])), /field 2 is varint/],
    ['a piece that is not UTF-8', model(bytes(1, bytes(1, [0xff]))), /not UTF-8/],
    ['an empty piece', model(piece('')), /piece 3 is empty/],
    ['a piece of no type', model(piece('a', 7)), /type of piece 3 \("a"\) is 7/],
    ['a score that is not a number', model(piece('a', 1, Number.NaN)), /score of piece 3 .* is NaN/],
    ['a byte piece that is no byte', model(piece('<0xZZ>', PieceType.byte)), /not of the form/],
    ['the same piece twice', model(piece('a'), piece('a')), /pieces 3 and 4 are both "a"/],
    ['a normal piece spelled like a control piece', model(piece('<s>')), /pieces 1 and 3 are both "<s>"/],
    ['a control piece that text can spell', model(piece('x', PieceType.control)), /plain text can spell/],
    ['no BOS', bareModel(piece('<unk>', PieceType.unknown), piece('<s>')), /no control \(BOS\) piece "<s>"/],
    ['no unknown piece', bareModel(piece('<s>', PieceType.control)), /no unknown piece "<unk>"/],
    ['a word model', model(piece('a'), bytes(2, integer(3, 3))), /model type is 3/],
    ['whitespace as a suffix', model(piece('a'), trainer(...integer(24, 1))), /suffix/],
    ['denormalization rules', model(piece('a'), bytes(5, text(2, 'rules'))), /denormalization/],
    ['two unknown pieces', model(piece('<unk2>', PieceType.unknown), piece('a'), trainer()), /SentencePiece says "/],
    ['byte fallback without bytes', model(piece('a'), trainer(...integer(35, 1))), /SentencePiece says "/],
    [
      'normalization rules cut short',
      model(piece('a'), trainer(), bytes(3, bytes(2, [9, 9, 9, 9]))),
      /SentencePiece says "/,
    ],
  ];
  it.each(refused)('is refused: %s', async (_name, bytes, message) => {
    await expect(SentencePieceTokenizer.fromBytes(bytes)).rejects.toThrow(refusal(message));
  });

  it('may come from another realm, and so may the text', async () => {
    const bytes = model(piece('\u2581'), piece('a'), trainer());
    const foreign = (values: Uint8Array): Uint8Array => runInNewContext('Uint8Array.from(values)', { values });
    expect(foreign(bytes)).not.toBeInstanceOf(Uint8Array);
    using tokenizer = await SentencePieceTokenizer.fromBytes(foreign(bytes));
    expect(tokenizer.encode('a')).toEqual([3, 4]);
    using runtime = await SentencePieceRuntime.start(bytes);
    expect(runtime.encode(foreign(Uint8Array.of(97)))).toEqual([3, 4]);
  });

  it('is refused if it is no bytes at all', async () => {
    await expect(SentencePieceTokenizer.fromBytes('tokenizer.model' as never)).rejects.toThrow(TypeError);
  });
});

describe('a damaged model', () => {
  let whole: Uint8Array;
  beforeAll(async () => {
    whole = await readFile(join(TINY, 'tokenizer.model'));
  });

  it('is refused wherever it is cut', () => {
    fc.assert(
      fc.property(fc.nat(whole.length - 1), (length) => {
        expect(() => parseSentencePieceModel(whole.subarray(0, length))).toThrow(TokenizerError);
      }),
      { numRuns: 30 },
    );
  });

  it('is refused, or works', async () => {
    const exitCode = process.exitCode;
    // Half of the changes fall on the specs behind the pieces, where most of the meaning is.
    const place = fc.oneof(fc.nat(whole.length - 1), fc.integer({ min: whole.length - 400, max: whole.length - 1 }));
    const changes = fc.array(fc.tuple(place, fc.nat(255)), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(changes, async (changes) => {
        const damaged = Uint8Array.from(whole);
        for (const [at, byte] of changes) damaged[at] = byte;
        try {
          using tokenizer = await SentencePieceTokenizer.fromBytes(damaged);
          const ids = tokenizer.encode('Is this <s> fine? \u{1f600}\n\0');
          expect(
            ids.every((id) => id < tokenizer.vocabularySize && id !== tokenizer.bosId && id !== tokenizer.eosId),
          ).toBe(true);
          tokenizer.decode(ids);
        } catch (error) {
          expect(error).toBeInstanceOf(TokenizerError);
        }
      }),
      { numRuns: 60 },
    );
    expect(process.exitCode).toBe(exitCode);
  });

  it('is never an endless walk', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        expect(() => parseSentencePieceModel(bytes)).toThrow(TokenizerError);
      }),
      { numRuns: 500 },
    );
  });
});

it('says so when WebAssembly died, and from then on', async () => {
  const exitCode = process.exitCode;
  // A double-array trie whose root points 2 GiB ahead: SentencePiece checks its size alone, and reads beyond the heap.
  const trie = new Uint8Array(Uint32Array.of(1024, 0x80000200, ...new Array<number>(255).fill(0)).buffer);
  const rules = [...trie, 0];
  using tokenizer = await SentencePieceTokenizer.fromBytes(model(piece('a'), trainer(), bytes(3, bytes(2, rules))));
  const failure = (message: RegExp) =>
    expect.objectContaining({ code: 'tokenizer-failed', message: expect.stringMatching(message) });
  expect(() => tokenizer.encode('hello')).toThrow(failure(/failed on a text .*load the tokenizer again/));
  expect(() => tokenizer.count('a')).toThrow(failure(/failed on an earlier text; load the tokenizer again/));
  expect(tokenizer.pieceOf(3)).toBe('a');
  expect(process.exitCode).toBe(exitCode);
});

describe('loadTokenizer', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'tokenizer-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const failure = (code: string, ...parts: string[]) =>
    expect.objectContaining({ code, message: expect.stringMatching(parts.join('.*')) });

  it('finds tokenizer.model', async () => {
    using tokenizer = await loadTokenizer(TINY);
    expect(tokenizer.vocabularySize).toBe(4096);
  });

  it('says what is missing', async () => {
    await expect(loadTokenizer(join(folder, 'nowhere'))).rejects.toThrow(
      failure('tokenizer-not-found', 'nowhere has neither a tokenizer.json nor a tokenizer.model'),
    );
  });

  it('names the file that is broken', async () => {
    const path = join(folder, 'tokenizer.model');
    await writeFile(path, '');
    await expect(loadTokenizer(folder)).rejects.toThrow(
      failure('tokenizer-invalid', 'tokenizer.model: ', 'it is empty'),
    );
  });
});
